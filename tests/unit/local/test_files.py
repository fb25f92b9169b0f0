from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.local.files import LOG_KEPT_BYTES, begin_log, log_tail, replacing, write_private


def test_a_private_file_is_for_its_owner_alone_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as descriptor:
        os.write(descriptor, b"half" * (1 // 0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_log_tail_is_of_this_start_alone_and_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert begin_log(log) == 0
    assert log_tail(log) == []
    log.write_text("earlier\n")
    begin = begin_log(log)
    with log.open("a") as lines:
        lines.writelines(f"line {number}\n\n" for number in range(5000))
    tail = log_tail(log, begin)
    assert tail[-1] == "line 4999"
    assert len(tail) == 12
    assert log_tail(log, log.stat().st_size) == []


def test_a_large_log_is_set_aside_at_a_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    os.truncate(log, LOG_KEPT_BYTES + 1)
    assert begin_log(log) == 0
    assert not log.exists()
    assert (tmp_path / "log.1").stat().st_size == LOG_KEPT_BYTES + 1
