from __future__ import annotations

from pathlib import Path

from collector.local.errors import LocalServerError
from collector.local.records import LocalPostgres, LocalS3, from_json, to_json


def test_the_error_is_one_line_and_carries_its_data() -> None:
    error = LocalServerError(
        "PostgreSQL", "ended with status 1", log=Path("/h/log"), tail=["LOG: a", "FATAL: b"]
    )
    assert str(error) == "PostgreSQL: ended with status 1: FATAL: b (log: /h/log)"
    assert error.tail == ("LOG: a", "FATAL: b")
    assert str(LocalServerError("SeaweedFS", "is missing")) == "SeaweedFS: is missing"


def test_records_survive_json_and_show_no_secret() -> None:
    postgres = LocalPostgres("postgresql://u:hidden@h/d", "psql", Path("/h/log"), 7)
    s3 = LocalS3("http://h", "hidden-key", "hidden-secret", "us-east-1", Path("/h/log"), 8)
    assert from_json(LocalPostgres, to_json(postgres)) == postgres
    assert from_json(LocalS3, to_json(s3)) == s3
    assert "hidden" not in repr(postgres) + repr(s3)
