from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.local.records import (
    LocalPostgres,
    LocalS3,
    LocalServerError,
    from_json,
    to_json,
    write_private,
)


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


def test_a_private_file_is_for_its_owner_alone_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_private(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            write_private(path, "new")
    assert path.read_text() == "old"
    write_private(path, "newer")
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]
