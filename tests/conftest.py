"""What holds for every test: none may block the event loop, none leaves its logging behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses
import pytest
from aiohttp.client_proto import ResponseHandler

# A callback of this length is seen by every other task as a stall. Ours take milliseconds; the
# rest is room for a machine that is busy with other things.
LONGEST_CALLBACK_SECONDS = 1.0
# How old a reading of `_Queues` may be: what is forgiven too much is at most this.
OLDEST_READING_SECONDS = 0.05


def pytest_configure() -> None:
    """Let SIGINT end what tests start, also where a shell runs them in the background.

    Without job control a shell's background job ignores it, and hands that on.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Collections:
    """The seconds that garbage collection took: the test process's heap is not the product's."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        now = time.monotonic()
        if phase == "start":
            self._began = now
        else:
            self.seconds += now - self._began


class _Queues:
    """The seconds for which a thread was ready to run and no core was free, where Linux counts."""

    def __init__(self) -> None:
        self._readings: dict[int, tuple[float, float]] = {}

    def seconds_before(self, now: float) -> float:
        """Return what this thread has waited until about `now`."""
        thread = threading.get_ident()
        read_at, seconds = self._readings.get(thread, (float("-inf"), 0.0))
        if now - read_at > OLDEST_READING_SECONDS:
            seconds = self.seconds()
            self._readings[thread] = now, seconds
        return seconds

    @staticmethod
    def seconds() -> float:
        """Return what this thread has waited: https://docs.kernel.org/scheduler/sched-stats.html
        (2026-11-29)."""
        with suppress(OSError):
            return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
        return 0.0


@pytest.fixture(scope="session")
def queues() -> _Queues:
    return _Queues()


@pytest.fixture(scope="session")
def collections() -> Iterator[_Collections]:
    watch = _Collections()
    gc.callbacks.append(watch)
    yield watch
    gc.callbacks.remove(watch)


@pytest.fixture(autouse=True)
def _no_blocked_loop(
    monkeypatch: pytest.MonkeyPatch, collections: _Collections, queues: _Queues
) -> Iterator[None]:
    """Fail a test in which one callback kept the event loop to itself for too long."""
    stalls: list[str] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began, collected = time.monotonic(), collections.seconds
        queued = queues.seconds_before(began)
        run(handle)
        took = time.monotonic() - began - (collections.seconds - collected)
        if took > LONGEST_CALLBACK_SECONDS:
            took -= max(0.0, queues.seconds() - queued)
        if took > LONGEST_CALLBACK_SECONDS:
            stalls.append(f"{took:.2f} s in {handle!r}")

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    yield
    assert not stalls, f"the event loop was blocked: {stalls}"


@pytest.fixture(autouse=True)
def _no_freezing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of ours opens one runtime and keeps what is there; this one opens hundreds."""
    monkeypatch.setattr(gc, "freeze", lambda: None)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a command of ours sets up: the next test reads its log by levels of its own."""
    loggers = [logging.getLogger(), logging.getLogger("collector")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


# No body of a small case reaches this, so that the mocked transport need not be paused.
_MOCKED_BUFFER_BYTES = 2**30


class _MockedResponse(aiohttp.ClientResponse):
    """aiohttp 3.14 asks for a `stream_writer` that aioresponses 0.7.9 does not hand over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


def _mocked_reader(loop: asyncio.AbstractEventLoop | None = None) -> aiohttp.StreamReader:
    loop = loop or asyncio.get_running_loop()
    return aiohttp.StreamReader(ResponseHandler(loop=loop), limit=_MOCKED_BUFFER_BYTES, loop=loop)


@pytest.fixture
def mocked_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses.aioresponses]:
    """Answers of aiohttp without a socket, for small cases; streaming ones need a server."""
    monkeypatch.setattr(aioresponses.core, "ClientResponse", _MockedResponse)
    monkeypatch.setattr(aioresponses.core, "stream_reader_factory", _mocked_reader)
    with aioresponses.aioresponses() as mocked:
        yield mocked
