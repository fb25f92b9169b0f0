"""The commands that show what there is: `status`, `explain`, `objects` and `config`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import app, invocation_of
from collector.cli.execution import Answer, Exit, execute, print_answer
from collector.core.errors import CODE_MEANING, Code, SettingsError
from collector.core.runs import Json

if TYPE_CHECKING:
    from rich.console import Console

    from collector.core.history import History
    from collector.runtime.opening import Runtime
    from collector.settings import Settings

# How many runs and backfills `status` shows, and the period of its rate.
STATUS_RUNS = 5
STATUS_RATE_SECONDS = 3600.0
# The fields of a history that `explain` shows.
_SHOWN = (
    *("state", "page_url", "url", "pending_url", "resolution", "file_type", "file_size"),
    *("s3_key", "object_sha256", "object_bytes", "stored_at"),
    *("attempts", "next_attempt_at", "lease_until"),
)
HIDDEN = "set, not shown"
# A key's id is half of a credential, so it is not shown either.
_SECRET = frozenset({"aws_access_key_id"})


@app.command()
def status(context: typer.Context) -> Exit:
    """Backlog by state, share enriched, last runs, last hour's rate."""
    from collector.runtime.opening import Need

    return execute(invocation_of(context), Need.SCHEMA, _status)


async def _status(runtime: Runtime) -> Answer:
    from collector.cli.output import show_mapping, show_rows
    from collector.cli.summary import show_runs

    backlog = await runtime.catalog.transfers.backlog()
    runs = await runtime.catalog.runs.last_runs(STATUS_RUNS)
    backfills = await runtime.catalog.crawls.last(STATUS_RUNS)
    images, size_bytes = await runtime.catalog.runs.stored_recently(STATUS_RATE_SECONDS)
    share = await runtime.catalog.enrichments.share()
    enrichment: dict[str, Json] = {
        "wallpapers": share.wallpapers,
        "enriched": share.enriched,
        "enriched_percent": share.percent,
    }
    counts: dict[str, Json] = {
        "pending": backlog.pending,
        "claimed": backlog.claimed,
        "waiting": backlog.waiting,
        "dead": backlog.dead,
        "images_stored_last_hour": images,
        "bytes_stored_last_hour": size_bytes,
    }

    def show(console: Console) -> None:
        show_mapping("backlog", counts, console)
        show_mapping("enrichment", enrichment, console)
        show_runs(runs, console)
        if backfills:
            show_rows("last backfills", [_backfill_row(each) for each in backfills], console)

    rows: dict[str, Json] = {"runs": list(runs), "backfills": list(backfills)}
    return Answer({**counts, **enrichment, **rows}, show)


def _backfill_row(backfill: Mapping[str, Json]) -> dict[str, Json]:
    from collector.cli.summary import search_words

    read, last = backfill["pages"], backfill["to_page"] or backfill["last_page"]
    return {
        "verdict": backfill["verdict"],
        "pages": f"{read} read, {backfill['from_page']} to {last or 'the end'}",
        "search": search_words(str(backfill["search"])),
        "run_id": backfill["run_id"],
    }


@app.command()
def explain(
    context: typer.Context,
    wallhaven_id: Annotated[
        str, typer.Argument(metavar="ID", help="The wallpaper's id at the site.")
    ],
) -> Exit:
    """Show the history of one wallpaper."""
    from collector.runtime.opening import Need

    async def command(runtime: Runtime) -> Answer:
        history = await runtime.catalog.items.history(wallhaven_id)
        if not history.is_known:
            return Answer(
                {"wallhaven_id": wallhaven_id, "state": "unknown"},
                lambda console: console.print(f"{wallhaven_id}: no run has listed it"),
                Exit.FAILED,
            )
        return Answer(history.as_json(), lambda console: _show_history(history, console))

    return execute(invocation_of(context), Need.SCHEMA, command)


def _show_history(history: History, console: Console) -> None:
    from collector.cli.output import show_lines, show_mapping

    data = history.as_json()
    shown = {name: data[name] for name in _SHOWN if data.get(name) is not None}
    if history.details and history.details.tags:
        shown["tags"] = ", ".join(history.details.tags)
    show_mapping(history.wallhaven_id, shown, console)
    console.print("what happened")
    for event in history.events():
        console.print(f"  {event.at.isoformat(timespec='seconds')}  {event.what}", soft_wrap=True)
    if problems := _problems(history):
        console.print("what is wrong")
        show_lines(problems, console)


def _problems(history: History) -> dict[str, Json]:
    return {
        letter.code: f"{letter.reason} ({CODE_MEANING[Code(letter.code)]})"
        for letter in history.letters
        if letter.resolved_at is None
    }


@app.command()
def objects(
    context: typer.Context,
    key: Annotated[
        str | None, typer.Option("--get", help="Save this object in the current folder.")
    ] = None,
) -> Exit:
    """List the images in the bucket, or save one of them."""
    from collector.core.keys import KEY_PREFIX
    from collector.demo import copy_objects
    from collector.runtime.opening import Need

    bucket = invocation_of(context).settings().bucket_name
    folder = _folder_for(key) if key is not None else None

    async def command(runtime: Runtime) -> Answer:
        if key is None or folder is None:
            return _listed([found async for found in runtime.store.keys(KEY_PREFIX)], bucket)
        await copy_objects(runtime.store, [key], folder)
        file = folder / Path(key).name
        return Answer(
            {"key": key, "file": str(file)},
            lambda console: console.print(str(file), soft_wrap=True),
        )

    return execute(invocation_of(context), Need.STORE, command)


def _folder_for(key: str) -> Path:
    """Return the current folder; raise SettingsError if this object cannot be saved in it."""
    from collector.core.keys import KEY_PREFIX

    name = key.removeprefix(KEY_PREFIX)
    if name == key or not re.fullmatch(r"[\w.]+", name, re.ASCII):
        raise SettingsError("--get", f"must be a key as `objects` lists it: {KEY_PREFIX}ID.EXT")
    if Path(name).exists():
        raise SettingsError(
            "--get", f"{name} exists already and was not overwritten; move it away first"
        )
    try:
        # Access rights do not tell: root has them even on a read-only file system.
        folder = Path.cwd()
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SettingsError(
            "--get", f"the current folder cannot be written: {error.strerror}"
        ) from None
    return folder


def _listed(objects: list[tuple[str, int]], bucket: str) -> Answer:
    def show(console: Console) -> None:
        if not objects:
            console.print(f"bucket {bucket} has no images")
        for key, size_bytes in objects:
            console.print(f"{size_bytes:>12} {key}", soft_wrap=True)

    listed: list[Json] = [{"key": key, "bytes": size_bytes} for key, size_bytes in objects]
    return Answer({"objects": listed}, show)


@app.command()
def config(context: typer.Context) -> Exit:
    """List each setting, its value and its source; no secret."""
    from collector.cli.output import show_rows
    from collector.settings.origins import origins

    invocation = invocation_of(context)
    settings = invocation.settings()
    found = origins(invocation.env_file, invocation.overrides)
    rows: list[dict[str, Json]] = [
        {"name": name.upper(), "value": shown(settings, name), "from": origin}
        for name, origin in found.items()
    ]
    data: dict[str, Json] = {
        str(row["name"]): {"value": row["value"], "from": row["from"]} for row in rows
    }
    lines = [{**row, "value": "unset" if row["value"] is None else row["value"]} for row in rows]
    answer = Answer(data, lambda console: show_rows("settings", lines, console))
    return print_answer(invocation, answer)


def shown(settings: Settings, name: str) -> Json:
    """Return the value of a setting without any secret, None if it is unset."""
    from pydantic import SecretStr

    from collector.catalog.database import describe_dsn

    value = getattr(settings, name)
    if name == "database_url" and value is not None:
        return describe_dsn(value.get_secret_value())
    if value and (name in _SECRET or isinstance(value, SecretStr)):
        return HIDDEN
    return value if value is None or isinstance(value, int | float) else str(value)
