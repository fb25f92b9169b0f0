"""What holds for every test: its tier, no blocked event loop, and no logging left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses
import hypothesis
import pytest
from aiohttp.client_proto import ResponseHandler
from loop_guard import Collections, Queues, watched

# An example may be slow on a busy machine: that is no failure.
hypothesis.settings.register_profile("collector", deadline=None)
hypothesis.settings.load_profile("collector")

TESTS = Path(__file__).parent
# Too long for `make test`, which runs what is marked as a smoke test of them.
SLOW_FOLDERS = [
    TESTS / "end_to_end",
    TESTS / "integration/faults",
    TESTS / "integration/local",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow, beside what is marked where it stands, all of the slow folders.

    `make test` runs what is not slow, and `make test-all` what is.
    """
    for item in items:
        is_in_slow_folder = any(folder in item.path.parents for folder in SLOW_FOLDERS)
        if is_in_slow_folder and item.get_closest_marker("smoke") is None:
            item.add_marker("slow")


def pytest_configure() -> None:
    """Let SIGINT and SIGHUP end what tests start, also in the background and under nohup.

    Without job control a shell's background job ignores SIGINT, nohup ignores SIGHUP, and both
    hand that on.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def queues() -> Queues:
    return Queues()


@pytest.fixture(scope="session")
def collections() -> Iterator[Collections]:
    watch = Collections()
    gc.callbacks.append(watch)
    yield watch
    gc.callbacks.remove(watch)


@pytest.fixture(autouse=True)
def _no_blocked_loop(
    monkeypatch: pytest.MonkeyPatch, collections: Collections, queues: Queues
) -> Iterator[None]:
    """Fail a test in which one callback kept the event loop to itself for too long."""
    stalls: list[str] = []
    run = watched(asyncio.Handle._run, stalls, collections, queues)
    monkeypatch.setattr(asyncio.Handle, "_run", run)
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
    before = [(it.level, list(it.handlers), list(it.filters)) for it in loggers]
    yield
    for logger, (level, handlers, filters) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:], logger.filters[:] = handlers, filters


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
