"""Check what a run needs: settings, database, bucket and API; say what to fix."""

from __future__ import annotations

import re
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

# What to do about a problem that names no setting and no command.
_STEPS = {
    "database": "check DATABASE_URL, and that the server runs",
    "bucket": "check S3_ENDPOINT_URL, BUCKET_NAME and the credentials",
    "api": "check WALLHAVEN_API_URL and the network of this machine",
}
_NAMED_STEP = re.compile(r"[A-Z]+_[A-Z]+|`collector ")


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: what was found and, if it failed, what to do."""

    name: str
    is_ok: bool
    found: str


async def examine(settings: Settings, progress: Progress) -> list[Check]:
    """Check settings, database, bucket and API; a failure is a result and raises nothing.

    Sends one API request and leaves a tiny object under `.probe/` in the bucket.
    """
    checks = [Check("settings", is_ok=True, found="all are valid")]
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
    except CollectorError as error:
        problem = error.problem if isinstance(error, Outage) else str(error)  # without the edge
        step = "" if _NAMED_STEP.search(problem) else f"; {_STEPS[name]}"
        return Check(name, is_ok=False, found=f"{problem}{step}")


async def _database(runtime: Runtime) -> str:
    known = [migration.version for migration in known_migrations()]
    where = "the embedded server" if runtime.local_postgres else runtime.catalog.database.address
    async with runtime.catalog.database.session() as session:
        applied = await applied_versions(session)
        if runtime.local_postgres and set(applied) < set(known):
            return f"{where} runs; the next run migrates its schema to version {known[-1]}"
        await require_schema(session)
    backlog = await runtime.catalog.transfers.backlog()
    to_store = backlog.pending + backlog.claimed + backlog.waiting
    return f"{where} has schema version {applied[-1]}; {to_store} images are not stored yet"


async def _bucket(runtime: Runtime) -> str:
    capabilities = await probe(runtime.store)
    if capabilities.missing:
        lacks = ", ".join(capabilities.missing)
        raise Outage(Edge.UPLOAD, f"the store lacks {lacks}; set S3_ENDPOINT_URL to another store")
    return (
        f"{runtime.settings.bucket_name} can be written, and the store enforces all that is needed"
    )


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
    return f"answers; the search lists {page.total} wallpapers"


def _require_hosts(page: Page, hosts: frozenset[str]) -> None:
    """Raise ItemError if no image of the page may be fetched."""
    refusals: list[ItemError] = []
    for wallpaper in page.wallpapers:
        try:
            require_allowed(wallpaper.url, hosts)
        except ItemError as refusal:
            refusals.append(refusal)
    if refusals and len(refusals) == len(page.wallpapers):
        raise refusals[0]
