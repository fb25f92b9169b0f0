"""Ports: what the stages need from the world, as Protocols. Adapters implement them.

Every method may raise `Outage` (systemic: the world is not there). Every method is safe to
cancel; what holds then is said where it is not "nothing happened".
"""

from __future__ import annotations

from collector.ports.budget import RequestBudget
from collector.ports.metadata import (
    CrawlCatalog,
    EnrichmentCatalog,
    HoldingsCatalog,
    LoadCatalog,
    LoadCounts,
    PageCatalog,
    SearchTotal,
)
from collector.ports.progress import Progress
from collector.ports.runs import RunCatalog
from collector.ports.store import (
    ObjectExists,
    ObjectInfo,
    ObjectStore,
    Upload,
    UploadedPart,
    WriteUnknown,
)
from collector.ports.transfers import TransferCatalog
from collector.ports.upkeep import JanitorCatalog, VerifyCatalog
from collector.ports.web import Body, Http, Reply

__all__ = [
    "Body",
    "CrawlCatalog",
    "EnrichmentCatalog",
    "HoldingsCatalog",
    "Http",
    "JanitorCatalog",
    "LoadCatalog",
    "LoadCounts",
    "ObjectExists",
    "ObjectInfo",
    "ObjectStore",
    "PageCatalog",
    "Progress",
    "Reply",
    "RequestBudget",
    "RunCatalog",
    "SearchTotal",
    "TransferCatalog",
    "Upload",
    "UploadedPart",
    "VerifyCatalog",
    "WriteUnknown",
]
