"""The commands, their options, and what each of them calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from collector import __version__
from collector.cli.execution import Answer, Exit, Invocation, execute
from collector.core.audit import AuditRow
from collector.core.errors import SettingsError
from collector.core.runs import DEFAULT_DAG_ID, Json, Run, RunStatus, StageName

if TYPE_CHECKING:
    from rich.console import Console

    from collector.runtime.opening import RunOptions, Runtime

# As a newcomer meets them: the job, what became of it, trying it out, upkeep.
COMMANDS = (
    *("run", "extract", "load", "transfer", "audit"),
    *("plan", "backfill", "enrich"),
    *("status", "explain", "dead", "objects", "doctor", "config"),
    *("verify", "janitor"),
    *("simulate", "serve", "demo"),
    *("migrate", "version"),
)


class _InOrder(TyperGroup):
    """Lists its commands in the order of COMMANDS."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=COMMANDS.index)


app = typer.Typer(
    name="collector",
    cls=_InOrder,
    help="Mirror a Wallhaven search into Postgres and S3.",
    epilog="Anywhere: --json (one JSON object on stdout), --env-file FILE (settings from a file).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Runs, and backfills, that `status` shows, and the time over which it takes the rate.
STATUS_RUNS = 5
STATUS_RATE_SECONDS = 3600.0

QueryOption = Annotated[
    str | None, typer.Option("--query", help="Instead of WALLHAVEN_QUERY; '*': everything.")
]
CollectionOption = Annotated[
    str | None, typer.Option("--collection", help="A collection, USER/ID, instead of a search.")
]
PagesOption = Annotated[
    int | None, typer.Option("--max-pages", min=1, help="Instead of WALLHAVEN_MAX_PAGES.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=0, help="Instead of UPLOAD_BATCH_LIMIT; 0: no limit.")
]
RefreshOption = Annotated[
    bool, typer.Option("--refresh", help="Read on to --max-pages where nothing is new.")
]
OnlyOption = Annotated[
    bool, typer.Option("--only", help="Leave images alone that this run's pages do not list.")
]
RunIdOption = Annotated[
    str | None, typer.Option("--run-id", help="The same run id again continues that run.")
]
DagIdOption = Annotated[str, typer.Option("--dag-id", help="Groups the runs in run_audit.")]


@app.command()
def version(context: typer.Context) -> None:
    """Say which version this is."""
    say_version(invocation_of(context))


def say_version(invocation: Invocation) -> None:
    """Print the version on one line."""
    print(json.dumps({"version": __version__}) if invocation.as_json else __version__)  # noqa: T201


@app.command()
def run(
    context: typer.Context,
    query: QueryOption = None,
    collection: CollectionOption = None,
    max_pages: PagesOption = None,
    limit: LimitOption = None,
    only: OnlyOption = False,
    refresh: RefreshOption = False,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> None:
    """Extract, load, transfer, audit: one run. Newest first, stops at what is known."""
    from collector.runtime.opening import RunOptions
    from collector.runtime.running import STAGE_NEEDS, run_all_stages

    invocation = invocation_of(context, query, collection)
    this_run = Run(dag_id, run_id or new_run_id("run"))
    options = RunOptions(max_pages, limit, refresh, only)
    audits: list[AuditRow] = []

    async def command(runtime: Runtime) -> Answer:
        return audit_answer(await run_all_stages(runtime, this_run, options, audits.append))

    raise typer.Exit(
        execute(
            invocation,
            STAGE_NEEDS[StageName.TRANSFER],
            command,
            lambda: audit_answer(audits[-1]) if audits else None,
            this_run,
        )
    )


@app.command()
def extract(
    context: typer.Context,
    query: QueryOption = None,
    collection: CollectionOption = None,
    max_pages: PagesOption = None,
    refresh: RefreshOption = False,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> None:
    """One stage: read pages of the search into staging."""
    from collector.runtime.opening import RunOptions

    invocation = invocation_of(context, query, collection)
    this_run = _run_of(StageName.EXTRACT, run_id, dag_id)
    _stage(invocation, StageName.EXTRACT, this_run, RunOptions(max_pages, None, refresh))


@app.command()
def load(
    context: typer.Context, run_id: RunIdOption = None, dag_id: DagIdOption = DEFAULT_DAG_ID
) -> None:
    """One stage: merge what is staged into the table of wallpapers."""
    from collector.runtime.opening import RunOptions

    this_run = _run_of(StageName.LOAD, run_id, dag_id)
    _stage(invocation_of(context), StageName.LOAD, this_run, RunOptions())


@app.command()
def transfer(
    context: typer.Context,
    limit: LimitOption = None,
    only: OnlyOption = False,
    worker: Annotated[
        int,
        typer.Option("--worker", min=0, max=9999, help="Which of several that share one run id."),
    ] = 0,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> None:
    """One stage: carry pending images into the bucket."""
    from collector.runtime.opening import RunOptions

    this_run = _run_of(StageName.TRANSFER, run_id, dag_id, worker)
    options = RunOptions(limit=limit, only=only)
    _stage(invocation_of(context), StageName.TRANSFER, this_run, options)


@app.command()
def audit(
    context: typer.Context, run_id: RunIdOption = None, dag_id: DagIdOption = DEFAULT_DAG_ID
) -> None:
    """One stage: count anew and write the audit row."""
    from collector.runtime.opening import RunOptions

    if run_id is None:
        raise SettingsError("--run-id", "must name the run to audit; `collector status` lists them")
    this_run = _run_of(StageName.AUDIT, run_id, dag_id)
    _stage(invocation_of(context), StageName.AUDIT, this_run, RunOptions())


@app.command(name="migrate")
def migrate_schema(context: typer.Context) -> None:
    """Bring the database schema up to date; safe to repeat."""
    from collector.catalog.migrations import known_migrations, migrate
    from collector.runtime.opening import Need

    async def command(runtime: Runtime) -> Answer:
        async with runtime.catalog.database.session() as session:
            applied = await migrate(session)
        version = known_migrations()[-1].version
        said = ", ".join(applied) or "nothing to do"
        data: dict[str, Json] = {"applied": list(applied), "version": version}
        return Answer(data, lambda console: console.print(f"schema version {version}: {said}"))

    raise typer.Exit(execute(invocation_of(context), Need.DATABASE, command))


@app.command()
def status(context: typer.Context) -> None:
    """Backlog by state, share enriched, last runs, last hour's rate."""
    from collector.runtime.opening import Need

    async def command(runtime: Runtime) -> Answer:
        return await _status(runtime)

    raise typer.Exit(execute(invocation_of(context), Need.SCHEMA, command))


async def _status(runtime: Runtime) -> Answer:
    from collector.cli.output import show_mapping, show_rows

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
        show_rows("last runs", [_short(run) for run in runs], console)
        if backfills:
            show_rows("last backfills", backfills, console)

    rows: dict[str, Json] = {"runs": list(runs), "backfills": list(backfills)}
    return Answer({**counts, **enrichment, **rows}, show)


def _short(run: Mapping[str, Json]) -> dict[str, Json]:
    """Return what fits one line of a terminal; `--json` has the rest."""
    return {
        "run_id": run["run_id"],
        "status": run["status"],
        "seconds": run["duration_seconds"],
        "inserted": run["metadata_inserted"],
        "uploaded": run["images_uploaded"],
        "adopted": run["images_adopted"],
        "notes": run["notes"],
    }


def _run_of(stage: StageName, run_id: str | None, dag_id: str, worker: int = 0) -> Run:
    return Run(dag_id, run_id or new_run_id(stage), worker=worker)


def _stage(invocation: Invocation, stage: StageName, this_run: Run, options: RunOptions) -> None:
    from collector.cli.output import show_mapping
    from collector.runtime.running import STAGE_NEEDS, run_stage_alone

    async def command(runtime: Runtime) -> Answer:
        result = await run_stage_alone(runtime, stage, this_run, options)
        if isinstance(result, AuditRow):
            return audit_answer(result)
        data = {"dag_id": this_run.dag_id, "run_id": this_run.run_id, **result.as_json()}
        return Answer(data, lambda console: show_mapping(stage, data, console))

    raise typer.Exit(execute(invocation, STAGE_NEEDS[stage], command, run=this_run))


def audit_answer(row: AuditRow) -> Answer:
    """Answer with an audit row; its status decides the exit status."""
    from collector.cli.output import show_audit

    statuses = {RunStatus.FAILED: Exit.FAILED, RunStatus.INTERRUPTED: Exit.INTERRUPTED}
    return Answer(
        row.as_json(),
        lambda console: show_audit(row, console),
        statuses.get(row.status, Exit.DONE),
    )


def invocation_of(
    context: typer.Context, query: str | None = None, collection: str | None = None
) -> Invocation:
    """Return what holds for this call, with the query or the collection that an option names.

    Raises SettingsError for both at once, and for a collection that is no USER/ID.
    """

    invocation: Invocation = context.obj
    if query is not None and collection is not None:
        raise SettingsError("--collection", "excludes --query: one of them is mirrored")
    if collection is not None:
        from collector.sources.wallhaven import CollectionName

        CollectionName.parse(collection)  # an empty one would stand for the search
        return invocation.override(wallhaven_collection=collection)
    if query is not None:
        return invocation.override(wallhaven_query=query, wallhaven_collection="")
    return invocation


def new_run_id(command: str) -> str:
    """Return `<command>__<UTC time>`."""
    return f"{command}__{datetime.now(UTC).isoformat(timespec='microseconds')}"
