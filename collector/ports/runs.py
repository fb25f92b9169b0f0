"""Runs and their audit rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from collector.core.audit import AuditRow, Recount, Verdict
from collector.core.runs import Run, SilentRun, StageCall, StageEnd


class RunCatalog(Protocol):
    """Runs, their stages and their audit rows."""

    async def open_run(self, run: Run) -> int:
        """Begin the run, or go on with it; return its key.

        Raises RunTrimmed where its details are trimmed: it cannot go on.
        """

    async def heartbeat(self, run_key: int) -> None:
        """Note that the run's process lives."""

    async def begin_stage(self, call: StageCall) -> None:
        """Note that a worker begins a stage of the run."""

    async def end_stage(self, call: StageCall, end: StageEnd) -> None:
        """Note how the stage ended for this worker."""

    async def recount(self, run_key: int) -> Recount:
        """Count anew what the run did; write nothing."""

    async def close_run(self, run_key: int, judge: Callable[[Recount], Verdict]) -> AuditRow:
        """Count anew and write the audit row, both in one snapshot.

        Of a run whose details are trimmed, the row stays as it is, and is returned.
        """

    async def silent_runs(
        self, but: int, silent_seconds: float, waiting_seconds: float
    ) -> list[SilentRun]:
        """Return running runs, except `but`, that have fallen silent.

        For `silent_seconds` while one of their stages was running, or for `waiting_seconds` while
        they waited for their next stage.
        """

    async def close_silent_run(
        self, silent: SilentRun, judge: Callable[[Recount], Verdict]
    ) -> AuditRow | None:
        """Close the run as `close_run` does, if it is silent still; None where it is not.

        Of several that do this at once, one does.
        """
