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
    """The signal `number` came; claims were released and the work can be resumed."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}: claims were released, the work can resume")
        self.number = number


def run_interruptible(
    main: Callable[[], Awaitable[T]], on_signal: Callable[[], object] = lambda: None
) -> T:
    """Run `main()`, on uvloop if it is installed. No other code starts an event loop.

    The first SIGTERM, SIGINT or SIGHUP calls `on_signal()`, cancels `main()` and, once it has
    cleaned up, raises Interrupted. A second SIGTERM or SIGINT ends the process at once, by SIGTERM.
    A SIGHUP that was ignored at the start (`nohup`) stays ignored.

    If SIGALRM has a handler, as Airflow sets one to limit a task, SIGALRM cancels `main()` too and
    then calls the handler before Interrupted: uvloop would swallow what the handler raises. The
    handlers of all signals are restored.
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
    """Open each standard descriptor that is closed on the null device.

    Otherwise the next file or socket would get its number: output would be written into it, and
    libuv would abort the process when it closes it.
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
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("an event loop is running in this thread: call this from another one")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _guarded(
    main: Callable[[], Awaitable[T]],
    on_signal: Callable[[], object],
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
        # The signal is the cause; what fails during the clean-up is only logged.
        if not received:
            raise
        logger.warning("error during the clean-up after a signal", exc_info=True)
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
        # A session that ends sends SIGHUP in addition to SIGTERM: it counts as one signal.
        while await anext(signals) is signal.SIGHUP:
            pass
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
