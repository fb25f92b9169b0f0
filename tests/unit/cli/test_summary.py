"""The lines at the end of a run, and a run's line in `status`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest

from collector.cli.output import PlainConsole
from collector.cli.summary import search_words, show_end, show_runs
from collector.core.audit import AuditRow
from collector.core.runs import RunStatus
from collector.settings import Settings

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
ROW = AuditRow(
    dag_id="collector",
    run_id="run",
    logical_date=None,
    started_at=NOW,
    ended_at=NOW,
    duration_seconds=1.0,
    metadata_inserted=10,
    metadata_updated=0,
    metadata_unchanged=14,
    metadata_invalid=0,
    images_uploaded=1_200,
    images_adopted=0,
    bytes_uploaded=1_234_567_890,
    download_failures=0,
    upload_failures=0,
    missing_s3_after_run=0,
    api_requests=1,
    status=RunStatus.SUCCEEDED,
    notes=None,
    report={"items_seen": 30, "duplicates": 6},
)


def end_of(row: AuditRow, **settings: Any) -> list[str]:
    written = StringIO()
    show_end(row, Settings(**settings), PlainConsole(written))
    return written.getvalue().splitlines()


def test_a_run_ends_with_what_was_searched_stored_and_is_missing() -> None:
    assert end_of(ROW) == [
        "",
        "searched  draenei: 24 wallpapers listed, 10 of them new",
        "stored    1,200 images, 1,234.6 MB, in bucket draenei-collector on the embedded S3 server",
        "missing   0 wallpapers of any search have no image yet",
    ]


def test_the_store_is_named_and_adopted_images_are_told_apart() -> None:
    (_, searched, stored, _) = end_of(
        replace(ROW, images_adopted=3),
        wallhaven_collection="someone/15",
        s3_endpoint_url="http://minio:9000",
    )
    assert searched.startswith("searched  collection someone/15: ")
    assert stored.endswith("MB, and 3 found there, in bucket draenei-collector on minio:9000")
    assert end_of(ROW, s3_endpoint_url="")[2].endswith("on AWS")


@pytest.mark.parametrize(
    ("changes", "report", "reason"),
    [
        ({}, {}, ""),
        ({"download_failures": 2, "upload_failures": 1}, {}, ": 3 to be retried by the next run"),
        (
            {"download_failures": 2},
            {"images_dead": 2},
            ": 2 given up in this run (`collector dead list` says why)",
        ),
        ({}, {"claimed_by_others": 4}, ": 4 claimed by other workers"),
        (
            {},
            {"stages": {"transfer": {"is_limit_reached": True}}},
            ": this run has stored as many as UPLOAD_BATCH_LIMIT or --limit allows",
        ),
    ],
)
def test_what_is_missing_has_its_reasons(
    changes: dict[str, Any], report: dict[str, Any], reason: str
) -> None:
    row = replace(ROW, missing_s3_after_run=9, report={**ROW.report, **report}, **changes)
    assert end_of(row)[3] == f"missing   9 wallpapers of any search have no image yet{reason}"


RUN = {
    "run_id": "backfill__2026-11-23T08:30:00.000000+00:00",
    "status": "interrupted",
    "started_at": "2026-11-23T08:30:00+00:00",
    "images_uploaded": 1_000_000,
    "images_adopted": 1,
    "download_failures": 1,
    "upload_failures": 1,
    "missing_s3_after_run": 1_234_567,
    "notes": None,
    "search": "wallhaven?categories=111&q=draenei",
}


def test_a_run_is_one_line_at_80_columns_and_notes_follow() -> None:
    written = StringIO()
    done = {**RUN, "status": "succeeded", "run_id": "good"}
    noted = {**RUN, "status": "partial", "notes": "images that failed: 2", "run_id": "noted"}
    show_runs([RUN, done, noted], PlainConsole(written, width=80))
    lines = written.getvalue().splitlines()
    assert lines[2].split() == [
        *("2026-11-23", "08:30", "interrupted", "1,000,001", "2", "1,234,567", "draenei")
    ]
    assert max(map(len, lines)) <= 80
    assert lines[5:] == [f" {RUN['run_id']}: interrupted", " noted: images that failed: 2"]


def test_where_there_is_room_a_line_ends_with_the_id_that_resumes_the_run() -> None:
    written = StringIO()
    show_runs([RUN], PlainConsole(written))
    assert written.getvalue().splitlines()[2].rstrip().endswith(str(RUN["run_id"]))


def test_nothing_is_known_of_a_run_that_has_just_begun() -> None:
    written = StringIO()
    begun = {**RUN, "status": "running", "started_at": None, "search": None}
    show_runs([begun], PlainConsole(written, width=80))
    assert written.getvalue().splitlines()[2].split() == ["running", "1,000,001", "2"]
    written = StringIO()
    show_runs([], PlainConsole(written))
    assert written.getvalue() == "last runs: none\n"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("wallhaven?categories=111&q=%2Bnature+-anime", "+nature -anime"),
        ("wallhaven?categories=111", "*"),
        ("wallhaven/collections/someone/15?purity=100", "collection someone/15"),
        ("", ""),
    ],
)
def test_a_search_is_named_by_its_words(key: str, words: str) -> None:
    assert search_words(key) == words
