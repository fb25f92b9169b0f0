"""PostgreSQL: all tables, reached by named queries; one part for each group of tables.

Every method may raise `Outage(database)`. Every method is safe to cancel: unless its docstring says
otherwise, a cancelled call changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from collector.catalog.budget import Allowance, SharedBudget
from collector.catalog.crawls import CrawlRange, Crawls, KnownCrawl
from collector.catalog.database import Database, open_database
from collector.catalog.dead_letters import DeadLetters, Items, StoredRow
from collector.catalog.enrichments import Enrichments
from collector.catalog.loads import LoadCounts, Loads
from collector.catalog.runs import Runs
from collector.catalog.staging import Pages, SearchTotal
from collector.catalog.transfers import ClaimPolicy, Transfers
from collector.catalog.verification import Verification

__all__ = [
    "Allowance",
    "Catalog",
    "ClaimPolicy",
    "CrawlRange",
    "Crawls",
    "Database",
    "DeadLetters",
    "Enrichments",
    "Items",
    "KnownCrawl",
    "LoadCounts",
    "Loads",
    "Pages",
    "Runs",
    "SearchTotal",
    "SharedBudget",
    "StoredRow",
    "Transfers",
    "Verification",
    "open_catalog",
    "open_database",
]


class Catalog:
    """The parts of one database. They hold no state, except pages that wait to be staged."""

    def __init__(self, database: Database, policy: ClaimPolicy) -> None:
        self.database = database
        self.runs = Runs(database)
        self.pages = Pages(database)
        self.loads = Loads(database)
        self.crawls = Crawls(database)
        self.transfers = Transfers(database, policy)
        self.enrichments = Enrichments(database)
        self.dead_letters = DeadLetters(database)
        self.items = Items(database)
        self.verification = Verification(database)


@asynccontextmanager
async def open_catalog(dsn: str, policy: ClaimPolicy) -> AsyncIterator[Catalog]:
    """Open the database, whatever its schema. Raises Outage(database) if it cannot."""
    async with open_database(dsn) as database:
        yield Catalog(database, policy)
