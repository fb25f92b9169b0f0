"""Commands that serve until Ctrl-C: `simulate` and `serve`."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import app, invocation_of
from collector.cli.execution import Answer, Exit, Invocation, print_answer
from collector.core.errors import SettingsError
from collector.core.runs import Json
from collector.logs import MARK, logger

if TYPE_CHECKING:
    from rich.console import Console

    from collector.local import LocalServers
    from collector.settings import Settings
    from collector.simulator import Simulator, SimulatorOptions


_SECONDS_PER_MINUTE = 60
DEMO_WALLPAPERS = 200

ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", file_okay=False, exists=True, help="Serve the images of this folder."),
]
WallpapersOption = Annotated[
    int, typer.Option("--wallpapers", min=1, help="Number of simulated wallpapers.")
]


@app.command()
def simulate(
    context: typer.Context,
    host: Annotated[
        str, typer.Option("--host", help="Name or address of this machine to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")] = 0,
    wallpapers: WallpapersOption = DEMO_WALLPAPERS,
    seed: Annotated[int, typer.Option("--seed")] = 7,
    images: ImagesOption = None,
    requests_per_minute: Annotated[
        int, typer.Option("--requests-per-minute", min=0, help="Limit of the API; 0: no limit.")
    ] = 45,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="FILE", help="Faults to simulate: calm, busy, stormy, or a file."
        ),
    ] = None,
) -> Exit:
    """Serve a simulated Wallhaven until Ctrl-C.

    API and images share one port. Paste the printed lines into the terminal in which you run the
    collector. Options override the profile.
    """
    from collector.cli.output import show_exports
    from collector.simulator import (
        EmptyFolderError,
        InvalidOptionError,
        Profile,
        ProfileError,
        SimulatorOptions,
        known_names,
        read_profile,
    )

    values: dict[str, object] = {
        "wallpapers": wallpapers,
        "seed": seed,
        "requests_per_minute": requests_per_minute,
    }
    if profile is not None:
        values = {name: value for name, value in values.items() if _is_given(context, name)}
    try:
        faults = read_profile(profile) if profile is not None else Profile()
        options = SimulatorOptions.of(faults, host=host, port=port, images=images, **values)
    except ProfileError as error:
        raise SettingsError("--profile", str(error)) from None
    except InvalidOptionError as error:
        raise SettingsError(f"--{error.name.replace('_', '-')}", str(error)) from None

    try:
        return _until_stopped(invocation_of(context), _served(options), show_exports, known_names())
    except EmptyFolderError as error:
        raise SettingsError("--images", str(error)) from None


@asynccontextmanager
async def _served(options: SimulatorOptions) -> AsyncIterator[Mapping[str, Json]]:
    from collector.simulator import open_simulator

    async with AsyncExitStack() as stack:
        try:
            simulator = await stack.enter_async_context(open_simulator(options))
        except OSError as error:
            raise _cannot_listen(options.host, options.port, error) from None
        yield exports(simulator, options)


def _cannot_listen(host: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            "--port", f"another program uses {port}; choose another port, or 0 for a free one"
        )
    if error.errno == errno.EACCES:
        return SettingsError(
            "--port", f"this user may not listen on {port}; choose a port above 1023"
        )
    return SettingsError("--host", f"{host} is not an address of this machine")


def exports(simulator: Simulator, options: SimulatorOptions) -> dict[str, Json]:
    """Return the settings that point the collector to a simulator.

    If its rate limit has a window shorter than a minute, the ceiling of requests a minute rises.
    """
    from collector.settings import Settings

    settings: dict[str, Json] = {
        "WALLHAVEN_API_URL": simulator.api_url,
        "WALLHAVEN_IMAGE_HOSTS": simulator.image_host,
    }
    windows_per_minute = _SECONDS_PER_MINUTE / options.limit.window_seconds
    if windows_per_minute > 1:
        # The limit that the API documents for its window of a minute.
        in_a_window: int = Settings.model_fields["wallhaven_requests_per_minute"].default
        settings["WALLHAVEN_REQUESTS_PER_MINUTE"] = str(int(in_a_window * windows_per_minute))
    return settings


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


@app.command()
def serve(context: typer.Context) -> Exit:
    """Keep the embedded servers running until Ctrl-C."""
    from collector.cli.output import show_lines
    from collector.local import open_local_servers

    invocation = invocation_of(context)
    settings = invocation.settings()
    if ignored := _elsewhere(settings):
        logger.warning(
            "serve ignores %s: it runs the embedded servers under %s",
            *(", ".join(ignored), settings.collector_home),
        )

    @asynccontextmanager
    async def servers() -> AsyncIterator[Mapping[str, Json]]:
        async with open_local_servers(settings.collector_home) as local:
            yield where_to_look(local, settings.bucket_name)

    return _until_stopped(invocation, servers(), show_lines)


def _elsewhere(settings: Settings) -> list[str]:
    """Return the settings that make other commands use another database or store."""
    from collector.settings import Settings

    prefixes = ("database_", "s3_", "aws_")
    named = [name for name in Settings.model_fields if name.startswith(prefixes)]
    return [name.upper() for name in named if getattr(settings, name) is not None]


def where_to_look(servers: LocalServers, bucket: str) -> dict[str, Json]:
    """Return how to reach the running embedded servers, without secrets.

    `rows` and `objects` are command lines; the other two are for any S3 tool.
    """
    found: dict[str, Json] = {}
    if servers.postgres:
        found["rows"] = servers.postgres.psql
    if servers.s3:
        home, python = shlex.quote(str(servers.home)), shlex.quote(sys.executable)
        found["objects"] = (
            f"COLLECTOR_HOME={home} BUCKET_NAME={bucket} {python} -m collector objects"
        )
        found["s3_endpoint"] = servers.s3.endpoint_url
        found["s3_credentials"] = str(servers.home / "s3" / "identity.json")
    return found


def _until_stopped(
    invocation: Invocation,
    serving: AbstractAsyncContextManager[Mapping[str, Json]],
    show: Callable[[Mapping[str, Json], Console], None],
    names: Sequence[str] = (),
) -> Exit:
    """Serve, print where, and wait for the signal that ends it, which is success.

    stderr says that the servers are ready, and the `names` that they know.
    """
    import anyio

    from collector.interrupts import Interrupted, run_interruptible
    from collector.local import LocalServerError

    has_answered = False

    async def main() -> None:
        nonlocal has_answered
        async with serving as where:
            invocation.answer(Answer(where, lambda console: show(where, console)))
            has_answered = True
            for line in ("ready; Ctrl-C stops it", *names):
                typer.echo(f"{MARK} {line}", err=True)
            await anyio.sleep_forever()

    try:
        run_interruptible(main)
    except Interrupted:
        return Exit.DONE
    except (LocalServerError, OSError) as error:
        typer.echo(f"collector: {error}", err=True)
        if not has_answered:
            failed: dict[str, Json] = {"status": "failed", "notes": str(error)}
            print_answer(invocation, Answer(failed, lambda _: None, Exit.FAILED))
    return Exit.FAILED
