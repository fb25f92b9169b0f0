"""Progress bars of long work at a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class SilentProgress:
    """Shows nothing: stderr is no terminal."""

    def start(self, task: str, total: int | None) -> None: ...

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None: ...

    def finish(self, task: str) -> None: ...


class TerminalProgress:
    """A bar for each task, with rate and time left; a context manager."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bytes: dict[str, int] = {}

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def start(self, task: str, total: int | None) -> None:
        self._tasks[task] = self._bars.add_task(task, total=total, rate="")
        self._bytes[task] = 0

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        self._bytes[task] += size_bytes
        bar = self._bars.tasks[self._bars.task_ids.index(self._tasks[task])]
        self._bars.update(
            self._tasks[task],
            advance=items,
            rate=_rate(bar.elapsed, bar.completed, self._bytes[task]),
        )

    def finish(self, task: str) -> None:
        self._bars.stop_task(self._tasks[task])


def _rate(elapsed_seconds: float | None, items: float, size_bytes: int) -> str:
    if not elapsed_seconds:
        return ""
    megabytes = size_bytes / elapsed_seconds / 1e6
    return f"{items / elapsed_seconds:.1f}/s" + (f" {megabytes:.1f} MB/s" if size_bytes else "")
