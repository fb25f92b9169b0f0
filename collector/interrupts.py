"""Run a coroutine so that SIGTERM and SIGINT cancel it cleanly."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from collector.flow import task_group

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Interrupted(Exception):
    """SIGTERM or SIGINT came; everything was released and the work can be resumed."""


def run_interruptible(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main()` on uvloop where it exists; the only `asyncio.run` of the collector.

    The first SIGTERM or SIGINT cancels it and, once it has cleaned up, raises Interrupted. The
    second one ends the process at once, as the signal would have.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_guarded(main))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _guarded(main: Callable[[], Awaitable[T]]) -> T:
    result: list[T] = []
    scope = anyio.CancelScope()
    try:
        async with task_group() as tasks:
            with scope:
                await tasks.start(_watch_signals, scope)
                result.append(await main())
            tasks.cancel_scope.cancel()
    except Exception:
        # What fails while everything is let go of is no news: the signal ended this.
        if not scope.cancel_called:
            raise
        logger.warning("while ending on a signal", exc_info=True)
    if not result:
        raise Interrupted
    return result[0]


async def _watch_signals(
    scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if scope.cancel_called:
                break
            scope.cancel()
        else:
            return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
