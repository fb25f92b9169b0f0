"""Whatever became of the standard streams, a command ends with its own status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import collector

CHECKOUT = Path(collector.__file__).parents[1]
# A command takes a fraction of a second; this only bounds a hang.
TIMEOUT_SECONDS = 30


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def status_of(words: list[str], *, stdout: int, stderr: int, unbuffered: str = "") -> int:
    return subprocess.run(
        words,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=stdout,
        stderr=stderr,
        timeout=TIMEOUT_SECONDS,
        check=False,
    ).returncode


@pytest.mark.case("PROC-14")
@pytest.mark.parametrize(
    ("words", "status", "unbuffered"),
    [
        (["version"], 0, ""),
        (["version"], 0, "1"),
        (["version", "--json"], 0, ""),
        (["--help"], 0, ""),
        (["nonsense"], 2, ""),
    ],
)
def test_a_pipe_that_nobody_reads_changes_no_status(
    broken_pipe: int, words: list[str], status: int, unbuffered: str
) -> None:
    command = [sys.executable, "-m", "collector", *words]
    assert status == status_of(
        command, stdout=broken_pipe, stderr=broken_pipe, unbuffered=unbuffered
    )


@pytest.mark.case("PROC-16")
@pytest.mark.parametrize(
    ("words", "status", "closed"),
    [
        (["version"], 0, ">&-"),
        (["nonsense"], 2, "2>&-"),
        (["version"], 0, "<&- >&- 2>&-"),
        (["nonsense"], 2, "<&- >&- 2>&-"),
    ],
)
def test_a_closed_descriptor_changes_no_status(words: list[str], status: int, closed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "collector", *words]
    null = subprocess.DEVNULL
    assert status_of(command, stdout=null, stderr=null) == status


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk always full")
def test_a_log_on_a_full_disk_changes_no_status() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "collector", "nonsense"]
        assert status_of(command, stdout=subprocess.DEVNULL, stderr=full.fileno()) == 2


def test_what_is_printed_is_whole() -> None:
    command = [sys.executable, "-m", "collector", "version"]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == (f"{collector.__version__}\n", "")
