"""Postgres: the catalog behind the stages, one module for each port."""

from collector.adapters.postgres.budget import Allowance, PostgresBudget
from collector.adapters.postgres.crawls import CrawlRange, KnownCrawl, PostgresCrawls
from collector.adapters.postgres.database import Database, open_database
from collector.adapters.postgres.dead_letters import PostgresDeadLetters
from collector.adapters.postgres.enrichments import PostgresEnrichments
from collector.adapters.postgres.items import PostgresItems
from collector.adapters.postgres.janitor import PostgresJanitor
from collector.adapters.postgres.loads import PostgresLoads
from collector.adapters.postgres.pages import PostgresPages
from collector.adapters.postgres.runs import PostgresRuns
from collector.adapters.postgres.transfers import ClaimPolicy, PostgresTransfers
from collector.adapters.postgres.verification import PostgresVerification

__all__ = [
    "Allowance",
    "ClaimPolicy",
    "CrawlRange",
    "Database",
    "KnownCrawl",
    "PostgresBudget",
    "PostgresCrawls",
    "PostgresDeadLetters",
    "PostgresEnrichments",
    "PostgresItems",
    "PostgresJanitor",
    "PostgresLoads",
    "PostgresPages",
    "PostgresRuns",
    "PostgresTransfers",
    "PostgresVerification",
    "open_database",
]
