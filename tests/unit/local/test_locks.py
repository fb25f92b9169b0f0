from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from collector.local.locks import is_locked, lock_file, try_lock


def test_a_second_open_in_the_same_process_conflicts(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path) as first, lock_file(path) as second:
        assert try_lock(first)
        assert not try_lock(second)
        assert not try_lock(second, shared=True)
        assert is_locked(path)
    assert not is_locked(path)


def test_readers_share_and_keep_a_writer_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path) as writer:
        with lock_file(path) as first, lock_file(path) as second:
            assert try_lock(first, shared=True)
            assert try_lock(second, shared=True)
            assert not try_lock(writer)
        assert try_lock(writer)


def test_a_child_that_inherits_the_descriptor_holds_the_lock_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path) as descriptor:
        assert try_lock(descriptor)
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "input()"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[descriptor],
        )
    with child:
        assert is_locked(path)
        child.kill()
    assert not is_locked(path)
