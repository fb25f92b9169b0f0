"""Enrich: ask about wallpapers one by one, the most valuable first, for tags and uploader."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import anyio

from collector.catalog import Enrichments
from collector.core.enrichment import Finding, Outcome, Target
from collector.core.errors import Code, CollectorError, Edge, Outage, PayloadError, Refusal
from collector.core.runs import StageName, StageReport
from collector.core.wallpapers import Rejected, WallpaperDetails
from collector.flow import task_group
from collector.logs import logger
from collector.ports import Progress
from collector.sources.wallhaven import WallhavenDetails
from collector.stages.api import ApiClient

# As many as are claimed, asked about and saved together: enough to hide the latency, and all that
# a process that is killed has asked for in vain.
WALLPAPERS_IN_FLIGHT = 4
# An item may be odd; so many odd ones on end mean that the API has changed.
MAX_UNUSABLE_IN_A_ROW = 10
# A clean exit after SIGTERM has 4 s in all.
LET_GO_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EnrichOptions:
    """At most `limit` wallpapers are asked about in a run."""

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
    """Ask about due wallpapers until the limit of the run, or until none is due.

    Answers are saved in small batches; what is stopped saves those it has, hands back the rest,
    and goes on there. A wallpaper that the API does not show is noted and asked about much later;
    so is, sooner, one whose answer is of no use. Raises Outage, also where MAX_UNUSABLE_IN_A_ROW
    answers on end are of no use, and Refusal where the API tells nothing to us as a guest.
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


class _Enricher:
    def __init__(
        self,
        audit_id: int,
        source: WallhavenDetails,
        api: ApiClient,
        catalog: Enrichments,
        progress: Progress,
    ) -> None:
        self._audit_id = audit_id
        self._source = source
        self._api = api
        self._catalog = catalog
        self._progress = progress
        self._unusable_in_a_row = 0
        # One that the API has shown us in this run.
        self._shown: str | None = None
        self.counts = Counter(dict.fromkeys((*Outcome, "tags", "rejected_tags"), 0))

    async def ask_all(self, targets: list[Target]) -> None:
        """Ask about the targets at once and save the answers, on any exit those that came."""
        findings: list[Finding] = []
        refused: list[Finding] = []
        try:
            async with task_group() as tasks:
                for target in targets:
                    tasks.start_soon(self._ask, target, findings, refused)
            if refused and not findings:
                await self._require_open_door()
            findings += refused
            await self._catalog.save(self._audit_id, findings)
        except BaseException as error:
            await self._let_go(targets, findings, failed=isinstance(error, Exception))
            raise
        for finding in findings:
            self._count(finding)

    async def _ask(self, target: Target, findings: list[Finding], refused: list[Finding]) -> None:
        try:
            finding = Finding(target, await self._found(target))
            findings.append(finding)
        except Refusal as refusal:
            # Without a key it may be the wallpaper that is refused: it has become nsfw.
            if not self._source.is_guest or refusal.edge is not Edge.API:
                raise
            finding = Finding(target, None)
            refused.append(finding)
        self._progress.advance("details", 1)
        _warn(finding)
        if isinstance(finding.found, WallpaperDetails):
            self._shown = target.wallhaven_id
        if finding.outcome is not Outcome.UNUSABLE:
            self._unusable_in_a_row = 0
            return
        self._unusable_in_a_row += 1
        if self._unusable_in_a_row == MAX_UNUSABLE_IN_A_ROW:
            raise Outage(Edge.API, f"{MAX_UNUSABLE_IN_A_ROW} answers in a row are of no use")

    async def _found(self, target: Target) -> WallpaperDetails | Rejected | None:
        request = self._source.details_request(target.wallhaven_id)
        return await self._api.find(request, lambda body: self._read(body, target))

    async def _require_open_door(self) -> None:
        """Raise Refusal unless the API still shows what it has shown before, to us as a guest."""
        known = self._shown or await self._catalog.answered_before()
        problem = "the API refuses every wallpaper without a key (HTTP 401); set WALLHAVEN_API_KEY"
        if known is None:
            raise Refusal(Edge.API, problem)
        try:
            await self._api.find(self._source.details_request(known), lambda _: None)
        except Refusal as refusal:
            if refusal.edge is not Edge.API:
                raise
            raise Refusal(Edge.API, problem) from None

    def _read(self, body: bytes, target: Target) -> WallpaperDetails | Rejected:
        # Not asked again at once: one odd answer must not hold up all others.
        try:
            return self._source.parse_details(body, target.wallhaven_id)
        except PayloadError as error:
            return Rejected(target.wallhaven_id, Code.INVALID_METADATA, error.problem, "")

    def _count(self, finding: Finding) -> None:
        self.counts[finding.outcome] += 1
        self.counts["tags"] += finding.tags
        self.counts["rejected_tags"] += finding.rejected_tags

    async def _let_go(
        self, targets: list[Target], findings: list[Finding], *, failed: bool
    ) -> None:
        """Save what came and hand back the rest: shielded, bounded, never raising.

        What was under way at a failure may be its cause: it is tried again later than the others.
        """
        answered = {finding.target for finding in findings}
        rest = [target for target in targets if target not in answered]
        hand_back = self._catalog.postpone if failed else self._catalog.release
        with anyio.move_on_after(LET_GO_SECONDS, shield=True):
            try:
                await self._catalog.save(self._audit_id, findings)
                await hand_back(rest)
            except CollectorError as error:
                logger.warning("answers not saved, they are asked for again: %s", error)


def _warn(finding: Finding) -> None:
    wallhaven_id, found = finding.target.wallhaven_id, finding.found
    if isinstance(found, Rejected):
        logger.warning("%s: the answer is of no use: %s", wallhaven_id, found.reason)
    elif found is not None:
        for tag in found.rejected_tags:
            logger.warning("%s: a tag is left out: %s", wallhaven_id, tag.reason)
