"""Errors carry data and are one line of text."""

from __future__ import annotations

import pytest

from collector.core.errors import (
    CODE_MEANING,
    Code,
    CollectorError,
    Edge,
    Fault,
    ImagesLeft,
    ItemError,
    LeaseLost,
    NotRetryable,
    OtherSearch,
    Outage,
    PayloadError,
    QuestionIgnored,
    Refusal,
    RunFailed,
    RunTrimmed,
    SchemaMissing,
    SettingsError,
    StagingMismatch,
    TooManyDead,
    UnknownRun,
    Unreadable,
)
from collector.core.maintenance import BucketDiffers

CONTRACT_CODES = [
    *("invalid_metadata", "bad_id", "type_mismatch", "size_mismatch", "length_mismatch"),
    *("magic_mismatch", "truncated", "html_response", "empty", "too_large", "not_found", "gone"),
    *("forbidden", "redirect_refused", "host_refused", "conflict_object", "checksum_mismatch"),
    *("exhausted", "internal_error"),
]


def test_every_code_of_the_contract_exists() -> None:
    assert set(CONTRACT_CODES) <= {code.value for code in Code}


def test_every_code_is_explained_in_one_line() -> None:
    assert CODE_MEANING.keys() == set(Code)
    assert all(text and "\n" not in text for text in CODE_MEANING.values())
    assert len(set(CODE_MEANING.values())) == len(Code)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SettingsError("BUCKET_NAME", "is wrong"), "BUCKET_NAME: is wrong"),
        (SchemaMissing("no schema"), "no schema; run `collector migrate`"),
        (Outage(Edge.UPLOAD, "nobody there"), "upload: nobody there"),
        (PayloadError("no list"), "no list"),
        (StagingMismatch(3, 4), "staging holds 3 rows but the page ledger says 4"),
        (
            RunFailed("run1", "10 of 40 images given up"),
            "run run1 failed: 10 of 40 images given up",
        ),
        (RunFailed("run1", None), "run run1 failed"),
        (TooManyDead("images", 10, 40), "10 of 40 images given up (25.0 %)"),
        (TooManyDead("items", 10, 0), "10 of 0 items given up (1000.0 %)"),
        (ItemError(Code.GONE, "HTTP 410", fault=Fault.PERMANENT), "gone: HTTP 410"),
        (
            UnknownRun("collector", "runn"),
            "there is no run runn of collector: nothing was audited; `collector status` lists the"
            " last runs",
        ),
        (LeaseLost("2169oy"), "the lease of 2169oy is lost"),
    ],
)
def test_an_error_reads_as_one_line(error: CollectorError, line: str) -> None:
    assert str(error) == line


def test_an_item_error_carries_what_decides() -> None:
    error = ItemError(
        Code.STORE_ERROR, "503", fault=Fault.TRANSIENT, edge=Edge.UPLOAD, retry_after_seconds=3.0
    )
    assert (error.code, error.reason, error.fault, error.edge, error.retry_after_seconds) == (
        Code.STORE_ERROR,
        "503",
        Fault.TRANSIENT,
        Edge.UPLOAD,
        3.0,
    )
    assert ItemError(Code.EMPTY, "", fault=Fault.TRANSIENT).edge is Edge.DOWNLOAD


def test_a_scheduler_retries_outages_and_nothing_that_a_person_has_to_change() -> None:
    final = (SettingsError, SchemaMissing, Refusal, OtherSearch, RunTrimmed, TooManyDead, RunFailed)
    assert all(issubclass(error, NotRetryable) for error in (*final, BucketDiffers))
    retried = (Outage, Unreadable, PayloadError, StagingMismatch, ImagesLeft, QuestionIgnored)
    assert not any(issubclass(error, NotRetryable) for error in retried)
