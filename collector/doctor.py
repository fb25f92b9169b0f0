"""Check that everything is as a run needs it, and say what to mend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from collector.catalog.migrations import applied_versions, known_migrations, require_schema
from collector.core.addresses import require_allowed
from collector.core.errors import CollectorError, Edge, ItemError, Outage, PayloadError
from collector.core.wallpapers import Page
from collector.ports import Progress
from collector.runtime.opening import Need, Runtime, open_runtime, source_of
from collector.settings import Settings
from collector.store.probe import probe


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: is it well, and what was seen or must be mended."""

    name: str
    is_ok: bool
    found: str


async def examine(settings: Settings, progress: Progress) -> list[Check]:
    """Look at settings, database, bucket with its capabilities, and API; never raise for one.

    One API request is sent. A tiny object stays under `.probe/` in the bucket.
    """
    checks = [Check("settings", is_ok=True, found="can be read")]
    for name, need, look in (
        ("database", Need.DATABASE, _database),
        ("bucket", Need.STORE, _bucket),
        ("api", Need.HTTP, _api),
    ):
        checks.append(await _check(settings, progress, name, need, look))
    return checks


async def _check(
    settings: Settings,
    progress: Progress,
    name: str,
    need: Need,
    look: Callable[[Runtime], Awaitable[str]],
) -> Check:
    try:
        async with open_runtime(settings, need, progress) as runtime:
            return Check(name, is_ok=True, found=await look(runtime))
    except Outage as outage:
        return Check(name, is_ok=False, found=outage.problem)  # `name` says already where
    except CollectorError as error:
        return Check(name, is_ok=False, found=str(error))


async def _database(runtime: Runtime) -> str:
    known = [migration.version for migration in known_migrations()]
    where = "the embedded server" if runtime.local_postgres else runtime.catalog.database.address
    async with runtime.catalog.database.session() as session:
        applied = await applied_versions(session)
        if runtime.local_postgres and set(applied) < set(known):
            return f"{where} runs; the next run brings its schema to version {known[-1]}"
        await require_schema(session)
    backlog = await runtime.catalog.transfers.backlog()
    to_store = backlog.pending + backlog.claimed + backlog.waiting
    return f"{where} has schema version {applied[-1]}; {to_store} images are still to be stored"


async def _bucket(runtime: Runtime) -> str:
    capabilities = await probe(runtime.store)
    if capabilities.missing:
        raise _Lacking(capabilities.missing)
    return f"{runtime.settings.bucket_name} can be written, and the store keeps every promise"


class _Lacking(CollectorError):
    """The store cannot keep what a transfer promises."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(f"the store lacks {', '.join(missing)}; use another one")


async def _api(runtime: Runtime) -> str:
    source = source_of(runtime.settings)
    request = source.page_request(1)
    reply = await runtime.http.get(request.url, request.headers)
    if reply.status != 200:
        raise Outage(Edge.API, f"HTTP {reply.status}")
    page = source.parse_page(reply.body, 1)
    if page.items and not page.wallpapers:
        raise PayloadError("none of its items can be read")
    _require_hosts(page, runtime.settings.image_hosts)
    return f"answers; there are {page.total} wallpapers to mirror"


def _require_hosts(page: Page, hosts: frozenset[str]) -> None:
    """Raise ItemError where no image of the page may be fetched: the setting is wrong."""
    refusals: list[ItemError] = []
    for wallpaper in page.wallpapers:
        try:
            require_allowed(wallpaper.url, hosts)
        except ItemError as refusal:
            refusals.append(refusal)
    if refusals and len(refusals) == len(page.wallpapers):
        raise refusals[0]
