"""What is kept of a try that failed."""

from __future__ import annotations

from collector.core.errors import Code, Edge, Fault, ItemError, ObjectConflict
from collector.core.maintenance import QuarantinedObject
from collector.core.retry import GiveUp, RetryLater
from collector.core.transfers import REASON_CHARACTERS, ItemFailure


def test_a_reason_is_kept_as_far_as_it_tells_something() -> None:
    error = ItemError(Code.STORE_ERROR, "x" * 900, fault=Fault.TRANSIENT, edge=Edge.UPLOAD)
    kept = ItemFailure.of(error, RetryLater(1.0))
    assert kept == ItemFailure(
        Code.STORE_ERROR, "x" * REASON_CHARACTERS, Edge.UPLOAD, RetryLater(1.0), None
    )


def test_another_object_under_the_key_is_kept_with_the_failure() -> None:
    error = ObjectConflict("wallpapers/abc.jpg", '"e"', 7)
    kept = ItemFailure.of(error, GiveUp(error.code))
    assert kept.conflict == QuarantinedObject("wallpapers/abc.jpg", '"e"', 7, error.code)
