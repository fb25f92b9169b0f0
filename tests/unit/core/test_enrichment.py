"""The outcome of a finding, and the share of enriched wallpapers."""

from __future__ import annotations

from uuid import UUID

import pytest

from collector.core.enrichment import EnrichmentShare, Finding, Outcome, Target
from collector.core.errors import Code
from collector.core.wallpapers import Rejected
from collector.sources.wallhaven import parse_details

TARGET = Target(1, UUID(int=7), "94x38z")
REJECTED = Rejected("94x38z", Code.INVALID_METADATA, "why", "")
BODY = b"""{"data": {
    "id": "94x38z", "path": "https://w.wallhaven.cc/full/94/wallhaven-94x38z.jpg",
    "tags": [{"id": 1, "name": "anime"}, {"id": 0, "name": "none"}, {"id": 2, "name": "two"}]
}}"""


@pytest.mark.parametrize(
    ("found", "outcome", "tags", "rejected_tags"),
    [
        (parse_details(BODY, "94x38z"), Outcome.ENRICHED, 2, 1),
        (REJECTED, Outcome.UNUSABLE, 0, 0),
        (None, Outcome.MISSING, 0, 0),
    ],
)
def test_what_came_is_what_is_counted(
    found: object, outcome: Outcome, tags: int, rejected_tags: int
) -> None:
    finding = Finding(TARGET, found)  # type: ignore[arg-type]
    assert (finding.outcome, finding.tags, finding.rejected_tags) == (outcome, tags, rejected_tags)


@pytest.mark.parametrize(
    ("wallpapers", "enriched", "percent"), [(0, 0, 0.0), (3, 1, 33.33), (4, 4, 100.0)]
)
def test_the_share_is_in_percent(wallpapers: int, enriched: int, percent: float) -> None:
    assert EnrichmentShare(wallpapers, enriched).percent == percent
