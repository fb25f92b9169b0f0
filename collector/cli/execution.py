"""From a command to its exit status: errors become one clear line, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from collector.cli.streams import configure_logging
from collector.core.audit import AuditRow
from collector.core.errors import CollectorError, SchemaMissing, SettingsError
from collector.core.runs import Json, Run, RunStatus
from collector.logs import logger

if TYPE_CHECKING:
    from rich.console import Console

    from collector.ports import Progress
    from collector.runtime.opening import Need, Runtime
    from collector.settings import Settings

# A command in backquotes, as messages name it; `hinted` adds the `--env-file` of this call.
_COMMAND = re.compile("`collector (?!--env-file )")


class Exit(IntEnum):
    """Exit statuses of the contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 75


@dataclass(slots=True)
class Answer:
    """What a command prints on stdout: one JSON object, or text for people."""

    data: Mapping[str, Json]
    text: Callable[[Console], None]
    status: Exit = Exit.DONE


@dataclass(frozen=True, slots=True)
class Invocation:
    """What every command takes: its arguments as typed, `--json`, `--env-file`."""

    arguments: tuple[str, ...]
    as_json: bool
    env_file: Path | None
    overrides: Mapping[str, object] = field(default_factory=dict)

    def override(self, **settings: object) -> Invocation:
        """Return the same invocation with settings that its options name."""
        return replace(self, overrides={**self.overrides, **settings})

    def settings(self) -> Settings:
        """Read the settings and configure logging with them. Raises SettingsError."""
        from collector.settings import load_settings

        settings = load_settings(self.env_file).model_copy(update=self.overrides)
        _ = settings.question  # validates what the options have overridden
        configure_logging(
            "json" if settings.collector_log_format == "json" else "text",
            settings.collector_log_level,
            self.hinted,
        )
        return settings

    def command(self, *words: str) -> str:
        """Return a command line in backquotes that reads the same settings as this one."""
        return self.hinted(f"`{shlex.join(['collector', *words])}`")

    def hinted(self, text: str) -> str:
        """Add this call's `--env-file` to each command in backquotes."""
        if self.env_file is None:
            return text
        named = f"`collector --env-file {shlex.quote(str(self.env_file))} "
        return _COMMAND.sub(lambda _: named, text)

    def warn_of_embedded(self, settings: Settings) -> None:
        """Warn if a named file leaves a server unset: a misspelt name may be the cause."""
        for is_embedded, names, server in (
            (settings.uses_local_postgres, "DATABASE_URL", "PostgreSQL"),
            (settings.uses_local_s3, "S3_ENDPOINT_URL or AWS credentials", "S3 server"),
        ):
            if self.env_file is not None and is_embedded:
                logger.warning(
                    "neither %s nor the environment sets %s: the embedded %s under %s is used",
                    *(self.env_file, names, server, settings.collector_home),
                )

    def resuming(self, run: Run) -> str:
        """Return the command line that resumes `run`."""
        words = list(self.arguments)
        if not any(word.partition("=")[0] == "--run-id" for word in words):
            words += ["--run-id", run.run_id]
        return shlex.join(["collector", *words])

    def answer(self, answer: Answer) -> None:
        """Print the answer on stdout."""
        from collector.cli.output import PlainConsole

        if self.as_json:
            print(json.dumps(dict(answer.data)), flush=True)  # noqa: T201
        else:
            # A tag may have letters that the locale lacks.
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")
            answer.text(PlainConsole())


def audit_answer(row: AuditRow) -> Answer:
    """Answer with an audit row; its status decides the exit status."""
    from collector.cli.output import show_audit

    statuses = {RunStatus.FAILED: Exit.FAILED, RunStatus.INTERRUPTED: Exit.INTERRUPTED}
    status = statuses.get(row.status, Exit.DONE)
    return Answer(row.as_json(), lambda console: show_audit(row, console), status)


def execute(
    invocation: Invocation,
    need: Need,
    command: Callable[[Runtime], Awaitable[Answer]],
    audits: Sequence[AuditRow] = (),
    run: Run | None = None,
) -> Exit:
    """Open what `command` needs, run it and print its answer.

    `audits` and `run` are those of `conclude`.
    """
    from collector.runtime.opening import open_runtime

    settings = invocation.settings()
    invocation.warn_of_embedded(settings)

    async def main(progress: Progress) -> Answer:
        async with open_runtime(settings, need, progress) as runtime:
            return await command(runtime)

    return conclude(invocation, main, audits, run)


def conclude(
    invocation: Invocation,
    main: Callable[[Progress], Awaitable[Answer]],
    audits: Sequence[AuditRow] = (),
    run: Run | None = None,
) -> Exit:
    """Run `main` so that signals interrupt it; turn its end into an answer and an exit status.

    `main` appends the audit rows that it writes to `audits`. If it fails or is interrupted, the
    last of them is the answer; without one, the problem is. `run` is the run to resume then.
    """
    from collector.interrupts import Interrupted, run_interruptible

    again = invocation.resuming(run) if run else "the same command"

    def on_signal() -> None:
        logger.warning("interrupted: claims are released, finished work is kept. Resume: %s", again)

    try:
        with _progress() as progress:
            answer = run_interruptible(lambda: main(progress), on_signal)
    except Interrupted:
        problem = f"interrupted: finished work is kept. Resume: {again}"
        return _unfinished(invocation, Exit.INTERRUPTED, problem, audits)
    except (SchemaMissing, SettingsError):
        raise
    except CollectorError as error:
        return _unfinished(invocation, Exit.FAILED, str(error), audits)
    except Exception as error:
        logger.exception("unexpected error, a defect of the collector: finished work is kept")
        return _unfinished(invocation, Exit.FAILED, type(error).__name__, audits)
    return print_answer(invocation, answer)


def print_answer(invocation: Invocation, answer: Answer) -> Exit:
    """Print the answer and return its status, FAILED if stdout cannot be written."""
    try:
        invocation.answer(answer)
    except OSError as error:
        # Python would write what is left in the buffer again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        logger.error("cannot write the answer to stdout: %s", error.strerror)
        return Exit.FAILED
    return answer.status


def _unfinished(
    invocation: Invocation, status: Exit, problem: str, audits: Sequence[AuditRow]
) -> Exit:
    problem = invocation.hinted(problem)
    logger.error("%s", problem)
    name = "interrupted" if status is Exit.INTERRUPTED else "failed"
    alone = Answer({"status": name, "notes": problem}, lambda _: None)
    answer = audit_answer(audits[-1]) if audits else alone
    return print_answer(invocation, replace(answer, status=status))


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.console import Console

    from collector.cli.progress import SilentProgress, TerminalProgress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield SilentProgress()
        return
    with TerminalProgress(console) as progress:
        yield progress
