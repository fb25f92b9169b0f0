"""Run a coroutine so that SIGTERM, SIGINT and SIGHUP cancel it cleanly."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from collector.flow import task_group

logger = logging.getLogger(__name__)

_ALARM = signal.SIGALRM
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, _ALARM)
_STDERR = 2

T = TypeVar("T")


class Interrupted(Exception):
    """The signal `number` came; everything was released and the work can be resumed."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}; everything was released")
        self.number = number


def _say_nothing() -> None:
    pass


def run_interruptible(
    main: Callable[[], Awaitable[T]], on_signal: Callable[[], None] = _say_nothing
) -> T:
    """Run `main()` on uvloop where it exists; the only `asyncio.run` of the collector.

    The first SIGTERM, SIGINT or SIGHUP calls `on_signal()`, cancels `main()` and, once it has
    cleaned up, raises Interrupted. A second SIGTERM or SIGINT ends the process at once, by SIGTERM.
    A SIGHUP that was ignored at the start (`nohup`) stays ignored.

    SIGALRM does the same where somebody handles it, who is then called in place of Interrupted:
    that is how Airflow limits a task, and uvloop would swallow what its handler raises. Handlers
    are in the end what they were in the beginning.
    """
    _require_no_loop()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    watched = [number for number in _SIGNALS if _is_watched(number, handlers[number])]
    open_closed_descriptors()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_guarded(main, on_signal, watched))
    except Interrupted as interruption:
        alarmed = handlers[_ALARM]
        if interruption.number is _ALARM and callable(alarmed):
            alarmed(_ALARM, None)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def open_closed_descriptors() -> None:
    """Open those of the three standard descriptors that are closed on the null device.

    Otherwise the next file or socket takes the place of one: text goes into it, and libuv aborts
    the process when it closes it.
    """
    null = os.open(os.devnull, os.O_RDWR)
    while null <= _STDERR:
        os.set_inheritable(null, True)
        null = os.open(os.devnull, os.O_RDWR)
    os.close(null)


def _is_watched(number: signal.Signals, handler: object) -> bool:
    if number is _ALARM:
        return callable(handler)
    return number is not signal.SIGHUP or handler is not signal.SIG_IGN


def _require_no_loop() -> None:
    """Raise RuntimeError before anything is made that would have to be taken back."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("a loop is running here already: call this from a thread without one")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _guarded(
    main: Callable[[], Awaitable[T]],
    on_signal: Callable[[], None],
    watched: Sequence[signal.Signals],
) -> T:
    result: list[T] = []
    received: list[signal.Signals] = []
    scope = anyio.CancelScope()

    def interrupt(number: signal.Signals) -> None:
        received.append(number)
        scope.cancel()
        on_signal()

    try:
        async with task_group() as tasks:
            with scope:
                await tasks.start(_watch_signals, watched, interrupt)
                result.append(await main())
            tasks.cancel_scope.cancel()
    except Exception:
        # What fails while everything is let go of is no news: the signal ended this.
        if not received:
            raise
        logger.warning("while ending on a signal", exc_info=True)
    if not result:
        raise Interrupted(received[0])
    return result[0]


async def _watch_signals(
    watched: Sequence[signal.Signals],
    interrupt: Callable[[signal.Signals], None],
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    with anyio.open_signal_receiver(*watched) as signals:
        task_status.started()
        interrupt(await anext(signals))
        # A session that ends sends SIGHUP beside SIGTERM: that is one end, not two.
        while await anext(signals) is signal.SIGHUP:
            pass
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
