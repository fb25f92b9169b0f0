"""Which wallpapers to request, the most valuable first, and the rows made of the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import uuid4

from collector.catalog.database import Database, Session, retry_conflicts
from collector.core.enrichment import EnrichmentShare, Finding, Outcome, Target
from collector.core.wallpapers import Tag, Uploader, WallpaperDetails

SECONDS_PER_DAY = 86_400.0
# There is no heartbeat: this is far longer than a batch takes, even if it waits long for the rate
# limit, and requesting a wallpaper twice costs only one request.
LEASE_SECONDS = 3_600.0
# Tags settle soon after the upload; once in three months finds later corrections.
ENRICH_AGAIN_SECONDS = 90 * SECONDS_PER_DAY
# A 404 may mean "deleted" or "not for guests"; neither changes soon.
MISSING_AGAIN_SECONDS = 30 * SECONDS_PER_DAY
# An unusable answer may have been cut short; after a second one, the next is likely to be the same.
POSTPONED_SECONDS = 3_600.0


class Enrichments:
    """The queue of wallpapers to request, and the rows made of the answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retry_conflicts
    async def enlist(self, *, nsfw: bool) -> None:
        """Add new wallpapers to the queue, and update the favourites of those without an answer.

        Wallpapers that are nsfw are added only with `nsfw`.
        """
        async with self._database.transaction() as session:
            await session.execute("enlist_details", nsfw)
            await session.execute("refresh_favorites")

    async def asked(self, audit_id: int) -> int:
        """Return about how many wallpapers the run has requested."""
        return int(await self._database.value("asked_by_run", audit_id))

    async def answered_before(self) -> str | None:
        """Return the wallhaven_id of a wallpaper that the API has shown, None if none yet."""
        found: str | None = await self._database.value("answered_before")
        return found

    @retry_conflicts
    async def claim(self, max_items: int) -> list[Target]:
        """Claim up to `max_items` due wallpapers for a new owner, the most valuable first."""
        owner, targets = uuid4(), list[Target]()
        async with self._database.transaction() as session:
            await session.execute("reap_details")
            for queue in ("claim_first", "claim_again"):
                wanted = max_items - len(targets)
                if wanted > 0:
                    rows = await session.fetch(queue, owner, wanted, LEASE_SECONDS)
                    targets += [Target(**row) for row in rows]
        return targets

    async def release(self, targets: Sequence[Target]) -> None:
        """Release wallpapers that were not requested: due at once, their attempts refunded."""
        for owner in {target.owner for target in targets}:
            await self._database.execute("release_details", owner, _keys(targets))

    async def postpone(self, targets: Sequence[Target]) -> None:
        """Release wallpapers without a usable answer: due later, after more attempts even later."""
        async with self._database.session() as session:
            await _postpone(session, _keys(targets))

    @retry_conflicts
    async def save(self, audit_id: int, findings: Sequence[Finding]) -> None:
        """Write details, tags, uploaders, counters and the run's findings; release all targets.

        One transaction: on failure or cancellation nothing has changed.
        """
        by_outcome = {
            outcome: [each.target for each in findings if each.outcome is outcome]
            for outcome in Outcome
        }
        async with self._database.transaction() as session:
            await _save_enriched(session, findings)
            missing = _keys(by_outcome[Outcome.MISSING])
            await session.execute("note_missing", missing, MISSING_AGAIN_SECONDS)
            await _postpone(session, _keys(by_outcome[Outcome.UNUSABLE]))
            await session.execute(
                "note_enrichments",
                audit_id,
                _keys([each.target for each in findings]),
                [each.outcome for each in findings],
                [each.tags for each in findings],
                [each.rejected_tags for each in findings],
            )

    async def share(self) -> EnrichmentShare:
        """Count all wallpapers, and those that are enriched."""
        (row,) = await self._database.fetch("enrichment_share")
        return EnrichmentShare(**row)


async def _save_enriched(session: Session, findings: Sequence[Finding]) -> None:
    answered = {
        each.target.wallpaper_id: each.found
        for each in findings
        if isinstance(each.found, WallpaperDetails)
    }
    await _upsert_tags(session, [tag for details in answered.values() for tag in details.tags])
    await _upsert_uploaders(session, [d.uploader for d in answered.values() if d.uploader])
    await session.execute(
        "note_enriched",
        list(answered),
        [details.uploader and details.uploader.username for details in answered.values()],
        [details.wallpaper.views for details in answered.values()],
        [details.wallpaper.favorites for details in answered.values()],
        ENRICH_AGAIN_SECONDS,
    )
    pairs = [(key, tag.tag_id) for key, details in answered.items() for tag in details.tags]
    tagged, tags = [key for key, _ in pairs], [tag_id for _, tag_id in pairs]
    await session.execute("drop_wallpaper_tags", list(answered), tagged, tags)
    await session.execute("add_wallpaper_tags", tagged, tags)


async def _upsert_tags(session: Session, tags: Sequence[Tag]) -> None:
    # A statement can write a row only once: the last of several answers counts.
    distinct = {tag.tag_id: tag for tag in tags}.values()
    await session.execute(
        "upsert_tags",
        [tag.tag_id for tag in distinct],
        [tag.name for tag in distinct],
        [tag.alias for tag in distinct],
        [tag.category_id for tag in distinct],
        [tag.category for tag in distinct],
        [tag.purity for tag in distinct],
        [tag.source_created_at for tag in distinct],
        [tag.extra for tag in distinct],
    )


async def _upsert_uploaders(session: Session, uploaders: Sequence[Uploader]) -> None:
    distinct = {uploader.username: uploader for uploader in uploaders}.values()
    await session.execute(
        "upsert_uploaders",
        [uploader.username for uploader in distinct],
        [uploader.group for uploader in distinct],
        [json.dumps(dict(uploader.avatars)) for uploader in distinct],
        [uploader.extra for uploader in distinct],
    )


async def _postpone(session: Session, keys: list[int]) -> None:
    await session.execute("postpone_details", keys, POSTPONED_SECONDS, MISSING_AGAIN_SECONDS)


def _keys(targets: Sequence[Target]) -> list[int]:
    return [target.wallpaper_id for target in targets]
