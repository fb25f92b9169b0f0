"""From a command to its exit status: errors become one clear line, never a traceback."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from collector.cli.streams import printable
from collector.core.errors import CollectorError, SchemaMissing, SettingsError
from collector.core.runs import Json, Run
from collector.logs import logger, mark_lines

if TYPE_CHECKING:
    from rich.console import Console

    from collector.ports import Progress
    from collector.runtime.opening import Need, Runtime
    from collector.settings import Settings


# How a text from below names a command; only here it is known which file goes with it.
_COMMAND = re.compile("`collector (?!--env-file )")
# A hostile value may hold anything; no line grows past this, and control characters are escaped.
_MESSAGE_CHARACTERS = 2_000


class Exit(IntEnum):
    """Exit statuses of the contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 75


@dataclass(slots=True)
class Answer:
    """What a command says on stdout: one JSON object, or text for people."""

    data: Mapping[str, Json]
    text: Callable[[Console], None]
    status: Exit = Exit.DONE


@dataclass(frozen=True, slots=True)
class Invocation:
    """What holds for any command: its arguments as given, `--json`, `--env-file`."""

    arguments: tuple[str, ...]
    as_json: bool
    env_file: Path | None
    overrides: Mapping[str, object] = field(default_factory=dict)

    def override(self, **settings: object) -> Invocation:
        """Return the same invocation with settings that its options name."""
        return replace(self, overrides={**self.overrides, **settings})

    def settings(self) -> Settings:
        """Read the settings and set up logging by them. Raises SettingsError."""
        from collector.settings import load_settings

        settings = load_settings(self.env_file).model_copy(update=self.overrides)
        _ = settings.question  # an option is refused as its setting is, before anything is opened
        configure_logging(
            "json" if settings.collector_log_format == "json" else "text",
            settings.collector_log_level,
            self.hinted,
        )
        return settings

    def command(self, *words: str) -> str:
        """Return a command line that reads the settings where this one does, in backquotes."""
        return self.hinted(f"`{shlex.join(['collector', *words])}`")

    def hinted(self, text: str) -> str:
        """Return a text in which each command in backquotes has the `--env-file` of this one."""
        if self.env_file is None:
            return text
        named = f"`collector --env-file {shlex.quote(str(self.env_file))} "
        return _COMMAND.sub(lambda _: named, text)

    def warn_of_embedded(self, settings: Settings) -> None:
        """Log what a named file leaves to the embedded servers: a misspelt name may be why."""
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
        """Return the command line that goes on with `run`."""
        words = list(self.arguments)
        if not any(word.partition("=")[0] == "--run-id" for word in words):
            words += ["--run-id", run.run_id]
        return shlex.join(["collector", *words])

    def answer(self, answer: Answer) -> None:
        """Write the answer to stdout."""
        from collector.cli.output import PlainConsole

        if self.as_json:
            print(json.dumps(dict(answer.data)), flush=True)  # noqa: T201
        else:
            # A locale without the letters of a tag is no reason to break off.
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")
            answer.text(PlainConsole())


Command: TypeAlias = "Callable[[Runtime], Awaitable[Answer]]"


def execute(
    invocation: Invocation,
    need: Need,
    command: Command,
    fallback: Callable[[], Answer | None] = lambda: None,
    run: Run | None = None,
) -> Exit:
    """Open what `command` needs, run it and answer; `run` is the run that it is about.

    `fallback` says what to answer where the command failed or was interrupted: a command that
    has written an audit row by then answers with it, any other with its problem alone.
    """
    from collector.runtime.opening import open_runtime

    settings = invocation.settings()
    invocation.warn_of_embedded(settings)

    async def main(progress: Progress) -> Answer:
        async with open_runtime(settings, need, progress) as runtime:
            return await command(runtime)

    return conclude(invocation, main, fallback, run)


def conclude(
    invocation: Invocation,
    main: Callable[[Progress], Awaitable[Answer]],
    fallback: Callable[[], Answer | None] = lambda: None,
    run: Run | None = None,
) -> Exit:
    """Run `main` interruptibly and turn its end into an answer and an exit status."""
    from collector.interrupts import Interrupted, run_interruptible

    going_on = invocation.resuming(run) if run else "the same command"

    def on_signal() -> None:
        logger.warning("interrupted; letting go ... To go on: %s", going_on)

    try:
        with _progress() as progress:
            answer = run_interruptible(lambda: main(progress), on_signal)
    except Interrupted:
        problem = f"interrupted; to go on: {going_on}"
        return _unfinished(invocation, Exit.INTERRUPTED, problem, fallback)
    except (SchemaMissing, SettingsError):
        raise
    except CollectorError as error:
        return _unfinished(invocation, Exit.FAILED, str(error), fallback)
    except Exception as error:
        logger.exception("a defect of the collector")
        return _unfinished(invocation, Exit.FAILED, type(error).__name__, fallback)
    return said(invocation, answer, answer.status)


def said(invocation: Invocation, answer: Answer, status: Exit) -> Exit:
    """Answer; one that cannot be written, for a full disk or the like, is a failure."""
    try:
        invocation.answer(answer)
    except OSError as error:
        # What is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        logger.error("the answer cannot be written: %s", error.strerror)
        return Exit.FAILED
    return status


def _unfinished(
    invocation: Invocation, status: Exit, problem: str, fallback: Callable[[], Answer | None]
) -> Exit:
    problem = invocation.hinted(problem)
    logger.error("%s", problem)
    name = "interrupted" if status is Exit.INTERRUPTED else "failed"
    answer = fallback() or Answer({"status": name, "notes": problem}, lambda _: None)
    return said(invocation, answer, status)


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


class _OneLine(logging.Filter):
    """Keep each record one printable line: text from outside must not forge log lines.

    `edited` makes of a line what the person who reads it can paste from.
    """

    def __init__(self, edited: Callable[[str], str]) -> None:
        super().__init__()
        self._edited = edited

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.exc_info:
            text += " " + "".join(traceback.format_exception(*record.exc_info)).strip()
            record.exc_info = record.exc_text = None
        record.msg = printable(self._edited(text[:_MESSAGE_CHARACTERS]))
        record.args = None
        return True


class _StderrNow(logging.StreamHandler[TextIO]):
    """Write to what `sys.stderr` is at the moment: progress bars put their own in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


def configure_logging(
    style: Literal["text", "json"], level: str, edited: Callable[[str], str] = str
) -> None:
    """Send our log lines, each `edited`, to stderr; libraries speak from WARNING on."""
    from pythonjsonlogger.json import JsonFormatter

    handler = _StderrNow()
    handler.addFilter(_OneLine(edited))
    if style == "json":
        handler.setFormatter(JsonFormatter("{levelname}{name}{message}", style="{", timestamp=True))
    else:
        # What a stage says begins the line; a person sees the time, and schedulers add theirs.
        handler.setFormatter(logging.Formatter("%(message)s"))
        mark_lines()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger.setLevel(level)
