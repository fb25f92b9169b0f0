"""The application, options that commands share, and the commands of a run and its stages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from collector import __version__
from collector.cli.execution import Answer, Exit, Invocation, audit_answer, execute
from collector.core.audit import AuditRow
from collector.core.errors import SettingsError
from collector.core.runs import DEFAULT_DAG_ID, Run, StageName

if TYPE_CHECKING:
    from collector.runtime.opening import Runtime

# The sections of `--help`, in its order.
TASKS = {
    "Mirror": ("run", "backfill", "plan", "enrich"),
    "One stage of a run": ("extract", "load", "transfer", "audit"),
    "Look": ("status", "explain", "objects", "config"),
    "Repair": ("dead", "verify", "janitor"),
    "Try it on this machine": ("demo", "simulate", "serve"),
    "Set up": ("migrate", "doctor", "version"),
}
COMMANDS = tuple(name for names in TASKS.values() for name in names)
_ANYWHERE = (
    "With any command: --json prints one JSON object, --env-file FILE reads settings from a file."
)


class Commands(TyperGroup):
    """A group whose commands are listed by task, and whose help names the common options."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = dict.fromkeys((*COMMANDS, *self.commands))
        return [name for name in names if name in self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.epilog = _ANYWHERE
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        if self.name != app.info.name:
            super().format_commands(ctx, formatter)
            return
        for task, names in TASKS.items():
            with formatter.section(task):
                formatter.write_dl(
                    [(name, self.commands[name].get_short_help_str(70)) for name in names]
                )


app = typer.Typer(
    name="collector",
    cls=Commands,
    help="Mirror a Wallhaven search into Postgres and S3, and prove it.",
    epilog=_ANYWHERE,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AddressArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="WALLHAVEN_ADDRESS",
        help="A page of wallhaven.cc: /search?q=..., /user/NAME, /tag/37, /user/NAME/favorites/15.",
    ),
]

QueryOption = Annotated[
    str | None, typer.Option("--query", help="Overrides WALLHAVEN_QUERY; '*': everything.")
]
CollectionOption = Annotated[
    str | None, typer.Option("--collection", help="Mirror a collection, USER/ID, not a search.")
]
PagesOption = Annotated[
    int | None, typer.Option("--max-pages", min=1, help="Overrides WALLHAVEN_MAX_PAGES.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=0, help="Overrides UPLOAD_BATCH_LIMIT; 0: no limit.")
]
RefreshOption = Annotated[
    bool, typer.Option("--refresh", help="Read up to --max-pages even if nothing is new.")
]
OnlyOption = Annotated[bool, typer.Option("--only", help="Only images that this run's pages list.")]
RunIdOption = Annotated[
    str | None, typer.Option("--run-id", help="An existing id resumes that run.")
]
DagIdOption = Annotated[str, typer.Option("--dag-id", help="Groups the runs in run_audit.")]


@app.command()
def version(context: typer.Context) -> None:
    """Print the version."""
    print_version(invocation_of(context))


def print_version(invocation: Invocation) -> None:
    """Print the version on one line."""
    print(json.dumps({"version": __version__}) if invocation.as_json else __version__)  # noqa: T201


@app.command()
def run(
    context: typer.Context,
    address: AddressArgument = None,
    query: QueryOption = None,
    collection: CollectionOption = None,
    max_pages: PagesOption = None,
    limit: LimitOption = None,
    only: OnlyOption = False,
    refresh: RefreshOption = False,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> Exit:
    """Extract, load, transfer, audit: one run. Newest first; stops at what is known."""
    from collector.runtime.opening import RunOptions
    from collector.runtime.running import STAGE_NEEDS, run_all_stages

    invocation = invocation_of(context, query, collection, address)
    this_run = Run(dag_id, run_id or new_run_id("run"))
    options = RunOptions(max_pages, limit, refresh, only)
    audits: list[AuditRow] = []

    async def command(runtime: Runtime) -> Answer:
        row = await run_all_stages(runtime, this_run, options, audits.append)
        return audit_answer(row, runtime.settings)

    return execute(invocation, STAGE_NEEDS[StageName.TRANSFER], command, audits, this_run)


@app.command()
def extract(
    context: typer.Context,
    address: AddressArgument = None,
    query: QueryOption = None,
    collection: CollectionOption = None,
    max_pages: PagesOption = None,
    refresh: RefreshOption = False,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> Exit:
    """One stage: read pages of the search into staging."""
    invocation = invocation_of(context, query, collection, address)
    return _stage(
        invocation, StageName.EXTRACT, run_id, dag_id, max_pages=max_pages, refresh=refresh
    )


@app.command()
def load(
    context: typer.Context, run_id: RunIdOption = None, dag_id: DagIdOption = DEFAULT_DAG_ID
) -> Exit:
    """One stage: merge staged rows into the table of wallpapers."""
    return _stage(invocation_of(context), StageName.LOAD, run_id, dag_id)


@app.command()
def transfer(
    context: typer.Context,
    limit: LimitOption = None,
    only: OnlyOption = False,
    worker: Annotated[
        int,
        typer.Option(
            "--worker", min=0, max=9999, help="Number of this worker, if several share a run id."
        ),
    ] = 0,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> Exit:
    """One stage: copy pending images into the bucket."""
    return _stage(
        invocation_of(context), StageName.TRANSFER, run_id, dag_id, worker, limit=limit, only=only
    )


@app.command()
def audit(
    context: typer.Context, run_id: RunIdOption = None, dag_id: DagIdOption = DEFAULT_DAG_ID
) -> Exit:
    """One stage: recount the run and write its audit row."""
    if run_id is None:
        raise SettingsError("--run-id", "must name the run to audit; `collector status` lists them")
    return _stage(invocation_of(context), StageName.AUDIT, run_id, dag_id)


def _stage(
    invocation: Invocation,
    stage: StageName,
    run_id: str | None,
    dag_id: str,
    worker: int = 0,
    **options: Any,
) -> Exit:
    from collector.cli.output import show_mapping
    from collector.runtime.opening import RunOptions
    from collector.runtime.running import STAGE_NEEDS, run_stage_alone

    this_run = Run(dag_id, run_id or new_run_id(stage), worker=worker)

    async def command(runtime: Runtime) -> Answer:
        result = await run_stage_alone(runtime, stage, this_run, RunOptions(**options))
        if isinstance(result, AuditRow):
            return audit_answer(result)
        data = {"dag_id": this_run.dag_id, "run_id": this_run.run_id, **result.as_json()}
        return Answer(data, lambda console: show_mapping(stage, data, console))

    return execute(invocation, STAGE_NEEDS[stage], command, run=this_run)


def invocation_of(
    context: typer.Context,
    query: str | None = None,
    collection: str | None = None,
    address: str | None = None,
) -> Invocation:
    """Return the invocation, with what its arguments name to mirror.

    Raises SettingsError if more than one is given, or if one cannot be mirrored.
    """
    invocation: Invocation = context.obj
    if sum(given is not None for given in (query, collection, address)) > 1:
        raise SettingsError("WALLHAVEN_ADDRESS, --query, --collection", "give one of them")
    if address is not None:
        from collector.sources.wallhaven.links import parse_link

        named = parse_link(address)
        return invocation.override(**{f"wallhaven_{name}": named[name] for name in named})
    if collection is not None:
        from collector.sources.wallhaven import CollectionName

        CollectionName.parse(collection)  # an empty one would mean the search
        return invocation.override(wallhaven_collection=collection)
    if query is not None:
        return invocation.override(wallhaven_query=query, wallhaven_collection="")
    return invocation


def new_run_id(command: str) -> str:
    """Return `<command>__<UTC time>`."""
    return f"{command}__{datetime.now(UTC).isoformat(timespec='microseconds')}"
