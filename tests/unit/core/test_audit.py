"""The audit: what a recount says about a run."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.audit import AuditRow, Recount, conclude_run, conclude_silent_run, too_many_dead
from collector.core.runs import RunStatus, StageName, StageReport

CLEAN = Recount(
    metadata_inserted=20,
    metadata_updated=3,
    metadata_unchanged=1,
    metadata_invalid=0,
    images_uploaded=20,
    images_adopted=0,
    bytes_uploaded=12_345,
    download_failures=0,
    upload_failures=0,
    missing_s3_after_run=0,
    api_requests=1,
    duplicates=0,
    pages=1,
    images_dead=0,
    claimed_by_others=0,
    any_failed=False,
    any_interrupted=False,
    stage_reports={"extract": {"pages": 1}},
    problems=None,
)
NOTHING = replace(CLEAN, metadata_inserted=0, metadata_updated=0, metadata_unchanged=0)


def status(recount: Recount, max_dead_percent: float = 5.0) -> RunStatus:
    return conclude_run(recount, max_dead_percent).status


def test_a_clean_run_succeeded() -> None:
    verdict = conclude_run(CLEAN, 5.0)
    assert verdict.status is RunStatus.SUCCEEDED
    assert verdict.notes is None
    assert verdict.report == {
        "outage_minutes": 0.0,
        "items_seen": 24,
        "duplicates": 0,
        "pages": 1,
        "metadata_dead": 0,
        "images_dead": 0,
        "claimed_by_others": 0,
        "stages": {"extract": {"pages": 1}},
    }


FINDINGS = {"enriched": 5, "missing": 1, "unusable": 0, "tags": 40, "rejected_tags": 0}


def test_an_enrichment_is_told_where_one_was_done() -> None:
    done = replace(NOTHING, stage_reports={"enrich": {}}, enrichment=FINDINGS)
    verdict = conclude_run(done, 5.0)
    assert verdict.status is RunStatus.SUCCEEDED
    assert verdict.report["enrichment"] == FINDINGS
    assert "enrichment" not in conclude_run(CLEAN, 5.0).report


@pytest.mark.parametrize("name", ["unusable", "rejected_tags"])
def test_an_enrichment_that_could_not_use_all_it_got_is_partial(name: str) -> None:
    findings = FINDINGS | {name: 1}
    assert status(replace(NOTHING, enrichment=findings)) is RunStatus.PARTIAL


@pytest.mark.parametrize(
    "column",
    ["metadata_invalid", "download_failures", "upload_failures", "images_dead"],
)
def test_a_run_that_gave_something_up_is_partial(column: str) -> None:
    assert status(replace(CLEAN, **{column: 1})) is RunStatus.PARTIAL


OUT = {"status": "failed", "outage_seconds": 900.0}
OUTAGES: list[tuple[Any, float]] = [
    ({"extract": OUT}, 15.0),
    ({"extract": {"outage_seconds": 30.0}, "load": {"pages": 1}, "transfer": OUT}, 15.5),
    ({"extract": {"workers": [OUT, {"pages": 2}, {"outage_seconds": 60.0}]}}, 15.0),
    ({"extract": {"outage_seconds": "long"}, "load": None}, 0.0),
    ({"extract": {"workers": []}}, 0.0),
]


@pytest.mark.parametrize(("reports", "minutes"), OUTAGES)
def test_the_minutes_of_an_outage_are_told(reports: Any, minutes: float) -> None:
    problems = "extract: api: no usable answer for 900 s"
    outlasted = conclude_run(replace(CLEAN, stage_reports=reports), 5.0)
    assert (outlasted.report["outage_minutes"], outlasted.notes) == (minutes, None)
    red = replace(CLEAN, stage_reports=reports, any_failed=True, problems=problems)
    told = f"{problems}; the API was down for {minutes:g} minutes" if minutes else problems
    assert (conclude_run(red, 5.0).status, conclude_run(red, 5.0).notes) == (RunStatus.FAILED, told)


def test_a_run_with_nothing_to_do_succeeded() -> None:
    assert status(replace(NOTHING, images_uploaded=0, pages=0)) is RunStatus.SUCCEEDED


def test_items_that_wait_for_the_next_run_are_no_failure() -> None:
    assert status(replace(CLEAN, missing_s3_after_run=1000)) is RunStatus.SUCCEEDED


def test_images_in_other_hands_make_a_run_partial_and_are_told() -> None:
    recount = replace(CLEAN, claimed_by_others=4, stage_reports={"transfer": {}})
    verdict = conclude_run(recount, 5.0)
    assert verdict.status is RunStatus.PARTIAL
    assert verdict.notes is not None
    assert verdict.notes.endswith(": 4")
    assert status(replace(CLEAN, claimed_by_others=4)) is RunStatus.SUCCEEDED, "it carried none"


def test_the_notes_say_how_many_items_made_a_run_partial() -> None:
    images = replace(CLEAN, download_failures=2, upload_failures=1, images_dead=1)
    told = "images that failed: 3, images given up: 1"
    verdict = conclude_run(images, 5.0)
    assert (verdict.status, verdict.notes) == (RunStatus.PARTIAL, told)
    refused = conclude_run(replace(CLEAN, metadata_invalid=2), 5.0)
    assert (refused.status, refused.notes) == (RunStatus.PARTIAL, "items refused: 2")


def test_pages_that_could_not_be_read_make_a_run_partial_and_are_named() -> None:
    verdict = conclude_run(replace(CLEAN, unreadable_pages=[2, 7]), 5.0)
    assert verdict.status is RunStatus.PARTIAL
    assert verdict.notes == "pages that could not be read: 2, 7"
    both = replace(
        CLEAN, unreadable_pages=[2], stage_reports={"extract": {"pages": 1, "short_pages": [3]}}
    )
    notes = "pages with too few items: [3]; pages that could not be read: 2"
    assert conclude_run(both, 5.0).notes == notes


@pytest.mark.parametrize(
    ("unreadable", "pages", "expected"),
    [
        (9, 1, RunStatus.PARTIAL),
        (10, 1, RunStatus.FAILED),
        (10, 189, RunStatus.FAILED),
        (10, 190, RunStatus.PARTIAL),
    ],
)
def test_a_source_of_which_hardly_a_page_can_be_read_fails_the_run(
    unreadable: int, pages: int, expected: RunStatus
) -> None:
    recount = replace(CLEAN, pages=pages, unreadable_pages=[*range(2, unreadable + 2)])
    assert status(recount) is expected


def test_a_search_that_matches_nothing_is_told_and_no_failure() -> None:
    report = {"pages": 1, "matches_nothing": "wallhaven?q=nothing"}
    verdict = conclude_run(replace(NOTHING, stage_reports={"extract": report}), 5.0)
    assert verdict.status is RunStatus.SUCCEEDED
    assert verdict.notes == "the search matches nothing: wallhaven?q=nothing"


def test_a_run_of_which_no_stage_ran_is_no_success() -> None:
    verdict = conclude_run(replace(NOTHING, stage_reports={}), 5.0)
    assert (verdict.status, verdict.notes) == (
        RunStatus.FAILED,
        "no stage of this run has run",
    )


def test_a_failed_stage_fails_the_run_and_is_told() -> None:
    verdict = conclude_run(replace(CLEAN, any_failed=True, problems="load: gone"), 5.0)
    assert verdict.status is RunStatus.FAILED
    assert verdict.notes == "load: gone"


def test_an_interrupted_run_is_interrupted_whatever_else_happened() -> None:
    assert status(replace(CLEAN, any_interrupted=True)) is RunStatus.INTERRUPTED
    assert status(replace(CLEAN, any_interrupted=True, any_failed=True)) is RunStatus.INTERRUPTED
    assert status(replace(CLEAN, any_interrupted=True, images_dead=20)) is RunStatus.INTERRUPTED


@pytest.mark.parametrize(
    ("dead", "tried", "expected"),
    [
        (9, 9, RunStatus.PARTIAL),
        (10, 10, RunStatus.FAILED),
        (10, 199, RunStatus.FAILED),
        (10, 200, RunStatus.PARTIAL),
        (11, 200, RunStatus.FAILED),
        (10, 0, RunStatus.FAILED),
    ],
)
def test_the_share_of_dead_images(dead: int, tried: int, expected: RunStatus) -> None:
    failures = min(dead, tried)
    recount = replace(
        CLEAN, images_dead=dead, download_failures=failures, images_uploaded=tried - failures
    )
    assert recount.images_attempted == tried
    assert status(recount) is expected


@pytest.mark.parametrize(
    ("dead", "seen", "expected"),
    [
        (9, 9, RunStatus.PARTIAL),
        (10, 199, RunStatus.FAILED),
        (10, 200, RunStatus.PARTIAL),
    ],
)
def test_the_share_of_dead_metadata(dead: int, seen: int, expected: RunStatus) -> None:
    recount = replace(NOTHING, metadata_invalid=dead, metadata_inserted=seen - dead)
    assert conclude_run(recount, 5.0).report["metadata_dead"] == dead
    assert recount.items_seen == seen
    assert status(recount) is expected


def test_the_threshold_is_a_setting() -> None:
    recount = replace(CLEAN, images_dead=20, download_failures=20, images_uploaded=20)
    assert status(recount, 50.0) is RunStatus.PARTIAL
    assert status(recount, 49.9) is RunStatus.FAILED
    assert status(recount, 100.0) is RunStatus.PARTIAL


def test_the_notes_name_what_was_given_up() -> None:
    recount = replace(CLEAN, images_dead=10, download_failures=10, problems="extract: slow")
    verdict = conclude_run(recount, 5.0)
    assert verdict.notes == "extract: slow; 10 of 30 images given up (33.3 %)"


def test_which_kind_has_too_many_is_told_with_its_counts() -> None:
    recount = replace(CLEAN, images_dead=10, download_failures=10)
    problem = too_many_dead(recount, 5.0)
    assert problem is not None
    assert (problem.kind, problem.dead, problem.handled) == ("images", 10, 30)
    assert too_many_dead(recount, 33.4) is None


HEARD_AT = datetime(2026, 9, 23, 17, 27, 56, 123456, tzinfo=UTC)


def test_a_run_that_fell_silent_in_a_stage_has_crashed_whatever_its_stages_said() -> None:
    last_heard = "last heartbeat at 2026-09-23T17:27:56+00:00"
    running = replace(CLEAN, any_running=True, any_failed=True)
    quiet = conclude_silent_run(running, HEARD_AT, 5.0)
    assert (quiet.status, quiet.notes) == (RunStatus.CRASHED, last_heard)
    assert quiet.report == conclude_run(running, 5.0).report
    interrupted = replace(running, any_interrupted=True, problems="load: gone")
    loud = conclude_silent_run(interrupted, HEARD_AT, 5.0)
    assert (loud.status, loud.notes) == (RunStatus.CRASHED, f"{last_heard}; load: gone")


def test_a_run_that_waited_for_its_next_stage_is_interrupted() -> None:
    waited = "waited for its next stage since 2026-09-23T17:27:56+00:00"
    verdict = conclude_silent_run(CLEAN, HEARD_AT, 5.0)
    assert (verdict.status, verdict.notes) == (RunStatus.INTERRUPTED, waited)
    assert verdict.report == conclude_run(CLEAN, 5.0).report
    failed = replace(CLEAN, any_failed=True, problems="load: gone")
    verdict = conclude_silent_run(failed, HEARD_AT, 5.0)
    assert (verdict.status, verdict.notes) == (RunStatus.INTERRUPTED, f"{waited}; load: gone")


counts = st.integers(0, 10**6)


@given(counts, counts, counts, counts, counts)
def test_every_item_seen_is_counted_once(
    inserted: int, updated: int, unchanged: int, invalid: int, duplicates: int
) -> None:
    recount = replace(
        CLEAN,
        metadata_inserted=inserted,
        metadata_updated=updated,
        metadata_unchanged=unchanged,
        metadata_invalid=invalid,
        duplicates=duplicates,
    )
    verdict = conclude_run(recount, 100.0)
    assert verdict.report["items_seen"] == inserted + updated + unchanged + invalid + duplicates
    assert (verdict.status is RunStatus.SUCCEEDED) == (invalid == 0)


def test_images_tried_are_distinct_images() -> None:
    recount = replace(CLEAN, images_adopted=5, download_failures=2, upload_failures=1)
    assert recount.images_attempted == 28


def audit_row(**changes: Any) -> AuditRow:
    started = datetime(2026, 9, 23, 17, 27, 56, tzinfo=UTC)
    counters = dict.fromkeys(COUNTERS, 0)
    values: dict[str, Any] = {
        "dag_id": "collector",
        "run_id": "run__1",
        "logical_date": None,
        "started_at": started,
        "ended_at": started.replace(second=58),
        "duration_seconds": 2.0,
        "status": RunStatus.PARTIAL,
        "notes": None,
        "report": {"stages": {"extract": {"pages": 1}}},
    }
    return AuditRow(**{**counters, **values, **changes})


COUNTERS = [
    *("metadata_inserted", "metadata_updated", "metadata_unchanged", "metadata_invalid"),
    *("images_uploaded", "images_adopted", "bytes_uploaded", "download_failures"),
    *("upload_failures", "missing_s3_after_run", "api_requests"),
]


def test_the_row_is_one_json_object_named_as_its_columns() -> None:
    row = audit_row(images_uploaded=7, notes='a "b"')
    shown = json.loads(json.dumps(row.as_json()))
    assert list(shown) == [field.name for field in fields(AuditRow)]
    assert set(COUNTERS) <= shown.keys()
    assert shown["started_at"] == "2026-09-23T17:27:56+00:00"
    assert shown["logical_date"] is None
    assert shown["status"] == "partial"
    assert shown["images_uploaded"] == 7
    assert shown["report"] == {"stages": {"extract": {"pages": 1}}}


def test_a_logical_date_is_iso_8601() -> None:
    row = audit_row(logical_date=datetime(2026, 1, 2, tzinfo=UTC))
    assert row.as_json()["logical_date"] == "2026-01-02T00:00:00+00:00"


def test_a_stage_report_is_one_flat_json_object() -> None:
    report = StageReport(StageName.LOAD, {"inserted": 2}, {"codes": {"gone": 1}})
    assert json.loads(json.dumps(report.as_json())) == {
        "stage": "load",
        "inserted": 2,
        "codes": {"gone": 1},
    }
