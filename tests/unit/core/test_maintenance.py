"""Bucket against tables: what a stray object is, and what a report holds."""

from __future__ import annotations

import pytest

from collector.core.maintenance import (
    KIND_MEANING,
    MAX_LISTED,
    BucketDiffers,
    Difference,
    Findings,
    Kind,
    ListedObject,
    PresentRow,
    Repair,
    Standing,
    classify_unmatched,
    id_of_key,
)

KEY = "wallpapers/abc123.jpg"
FOUND = ListedObject(KEY, 10)


def row(s3_key: str | None = None, *, is_claimed: bool = False) -> PresentRow:
    url = "https://w.wallhaven.cc/full/ab/wallhaven-abc123.jpg"
    return PresentRow(1, "abc123", url, "image/jpeg", 10, s3_key, None, None, is_claimed)


@pytest.mark.parametrize(
    ("present", "quarantined", "verdict"),
    [
        (row(KEY), False, Standing.MATCHED),
        (row(KEY), True, Standing.MATCHED),
        (row(), False, Kind.UNCONFIRMED),
        (row(is_claimed=True), False, Standing.IN_PROGRESS),
        (row("wallpapers/abc123.png"), False, Kind.UNOWNED),
        (None, False, Kind.UNOWNED),
        (None, True, Standing.QUARANTINED),
        (row(), True, Standing.QUARANTINED),
    ],
)
def test_what_a_stray_is(
    present: PresentRow | None, quarantined: bool, verdict: Kind | Standing
) -> None:
    assert classify_unmatched(FOUND, present, quarantined=quarantined) is verdict


def test_an_object_of_another_type_than_its_row_says_is_nobodys() -> None:
    assert (
        classify_unmatched(ListedObject("wallpapers/abc123.png", 10), row(), quarantined=False)
        is Kind.UNOWNED
    )


@pytest.mark.parametrize(
    ("key", "wallhaven_id"),
    [(KEY, "abc123"), ("wallpapers/a.b.jpg", "a"), ("wallpapers/", ""), ("wallpapers/x/y", "x/y")],
)
def test_the_id_in_a_key(key: str, wallhaven_id: str) -> None:
    assert id_of_key(key) == wallhaven_id


def test_all_differences_are_counted_and_the_first_are_listed() -> None:
    findings = Findings()
    for number in range(MAX_LISTED + 5):
        repair = Repair.REQUEUED if number % 2 else None
        findings.add(Difference(Kind.MISSING, f"wallpapers/{number}.jpg", None, "", repair))
    assert findings.kinds[Kind.MISSING] == MAX_LISTED + 5
    assert findings.left == MAX_LISTED + 5 - findings.repairs[Repair.REQUEUED]
    assert len(findings.listed) == MAX_LISTED
    assert findings.as_json()["missing"] == MAX_LISTED + 5
    assert "missing 1005" in str(BucketDiffers(findings))


def test_every_kind_has_a_meaning() -> None:
    assert set(KIND_MEANING) == set(Kind)
