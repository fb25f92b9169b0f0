"""Enrich: request tags and uploader of wallpapers, one by one, the most valuable first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import anyio

from collector.catalog import Enrichments
from collector.core.enrichment import Finding, Outcome, Target
from collector.core.errors import Code, CollectorError, Edge, Outage, PayloadError, Refusal
from collector.core.runs import StageName, StageReport
from collector.core.wallpapers import Rejected, WallpaperDetails
from collector.flow import CLEANUP_SECONDS, task_group
from collector.logs import logger
from collector.ports import Progress
from collector.sources.wallhaven import WallhavenDetails
from collector.stages.api_client import ApiClient

# Claimed, requested and saved together: enough to hide the latency, and the most requests that are
# lost if the process is killed.
WALLPAPERS_IN_FLIGHT = 4
# One unusable answer may be an odd item; so many in a row mean that the API has changed.
MAX_UNUSABLE_IN_A_ROW = 10


@dataclass(frozen=True, slots=True)
class EnrichOptions:
    """A run requests at most `limit` wallpapers."""

    limit: int


async def enrich(
    audit_id: int,
    *,
    source: WallhavenDetails,
    api: ApiClient,
    catalog: Enrichments,
    options: EnrichOptions,
    progress: Progress,
) -> StageReport:
    """Request due wallpapers until the limit of the run is reached or none is due.

    Answers are saved in small batches. When stopped, the stage saves the answers that it has and
    releases the rest; the next call resumes there. A wallpaper that the API does not show is
    requested again much later, one with an unusable answer sooner. Raises Outage, also after
    MAX_UNUSABLE_IN_A_ROW unusable answers in a row, and Refusal if the API shows a guest nothing.
    """
    await catalog.enlist(nsfw=not source.is_guest)
    left = max(0, options.limit - await catalog.asked(audit_id))
    enricher = _Enricher(audit_id, source, api, catalog, progress)
    progress.start("details", left)
    while left > 0 and (targets := await catalog.claim(min(left, WALLPAPERS_IN_FLIGHT))):
        left -= len(targets)
        await enricher.ask_all(targets)
    progress.finish("details")
    return StageReport(StageName.ENRICH, {**enricher.counts, "api_requests": api.requests_sent})


@dataclass
class _Enricher:
    audit_id: int
    source: WallhavenDetails
    api: ApiClient
    catalog: Enrichments
    progress: Progress
    unusable_in_a_row: int = 0
    # A wallpaper that the API has shown in this run.
    shown: str | None = None
    counts: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys((*Outcome, "tags", "rejected_tags"), 0))
    )

    async def ask_all(self, targets: list[Target]) -> None:
        """Request all targets at once; on any exit, save the answers that came."""
        findings: list[Finding] = []
        refused: list[Finding] = []
        try:
            async with task_group() as tasks:
                for target in targets:
                    tasks.start_soon(self._ask, target, findings, refused)
            if refused and not findings:
                await self._require_guests_welcome()
            findings += refused
            await self.catalog.save(self.audit_id, findings)
        except BaseException as error:
            await self._release(targets, findings, failed=isinstance(error, Exception))
            raise
        for finding in findings:
            self.counts[finding.outcome] += 1
            self.counts["tags"] += finding.tags
            self.counts["rejected_tags"] += finding.rejected_tags

    async def _ask(self, target: Target, findings: list[Finding], refused: list[Finding]) -> None:
        request = self.source.details_request(target.wallhaven_id)
        try:
            found = await self.api.find(request, lambda body: self._parse(body, target))
            finding = Finding(target, found)
            findings.append(finding)
        except Refusal as refusal:
            # Without a key, only this wallpaper may be refused: it has become nsfw.
            if not self.source.is_guest or refusal.edge is not Edge.API:
                raise
            finding = Finding(target, None)
            refused.append(finding)
        self.progress.advance("details", 1)
        _warn(finding)
        if isinstance(finding.found, WallpaperDetails):
            self.shown = target.wallhaven_id
        if finding.outcome is not Outcome.UNUSABLE:
            self.unusable_in_a_row = 0
            return
        self.unusable_in_a_row += 1
        if self.unusable_in_a_row == MAX_UNUSABLE_IN_A_ROW:
            raise Outage(Edge.API, f"{MAX_UNUSABLE_IN_A_ROW} unusable answers in a row")

    def _parse(self, body: bytes, target: Target) -> WallpaperDetails | Rejected:
        # Not raised, so not retried at once: one odd answer must not delay all others.
        try:
            return self.source.parse_details(body, target.wallhaven_id)
        except PayloadError as error:
            return Rejected(target.wallhaven_id, Code.INVALID_METADATA, error.problem, "")

    async def _require_guests_welcome(self) -> None:
        """Raise Refusal unless the API still shows a guest a wallpaper that it has shown before."""
        known = self.shown or await self.catalog.answered_before()
        problem = "the API refuses every wallpaper without a key (HTTP 401); set WALLHAVEN_API_KEY"
        if known is None:
            raise Refusal(Edge.API, problem)
        try:
            await self.api.find(self.source.details_request(known), lambda _: None)
        except Refusal as refusal:
            if refusal.edge is not Edge.API:
                raise
            raise Refusal(Edge.API, problem) from None

    async def _release(
        self, targets: list[Target], findings: list[Finding], *, failed: bool
    ) -> None:
        """Save what came and release the rest: shielded, bounded, never raising.

        What was in flight when a request failed may be the cause: it is due later than the others.
        """
        answered = {finding.target for finding in findings}
        rest = [target for target in targets if target not in answered]
        release = self.catalog.postpone if failed else self.catalog.release
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            try:
                await self.catalog.save(self.audit_id, findings)
                await release(rest)
            except CollectorError as error:
                logger.warning("answers not saved, they will be requested again: %s", error)


def _warn(finding: Finding) -> None:
    wallhaven_id, found = finding.target.wallhaven_id, finding.found
    if isinstance(found, Rejected):
        logger.warning("%s: unusable answer, to be requested again: %s", wallhaven_id, found.reason)
    elif found is not None:
        for tag in found.rejected_tags:
            logger.warning("%s: a tag is left out: %s", wallhaven_id, tag.reason)
