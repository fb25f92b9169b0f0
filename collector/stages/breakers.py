"""Breakers: what the tries of a transfer say of its two edges, the image host and the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import anyio

from collector.core.errors import Edge, ItemError, Outage
from collector.core.health import EdgeHealth
from collector.core.keys import KEY_PREFIX
from collector.ports import Http, ObjectStore

# Of this key, only whether the store answers is asked.
ASKED_KEY = f"{KEY_PREFIX}asked.jpg"
# What a host in good health says of an image that it has, or has no more.
_HEALTHY_STATUSES = frozenset({200, 404, 410, 451})


class Breakers:
    """End a transfer whose edge is down, hold it back where the image host asks for it.

    `known_good_url` gives the address of an image that was stored, None before there is one;
    `clock` is monotonic seconds. A pause longer than `longest_pause_seconds` is never made.
    """

    def __init__(
        self,
        http: Http,
        store: ObjectStore,
        known_good_url: Callable[[], Awaitable[str | None]],
        clock: Callable[[], float],
        longest_pause_seconds: float,
    ) -> None:
        self._http = http
        self._store = store
        self._known_good_url = known_good_url
        self._clock = clock
        self._longest_pause_seconds = longest_pause_seconds
        self._health = {Edge.DOWNLOAD: EdgeHealth(), Edge.UPLOAD: EdgeHealth()}
        self._paused_until = float("-inf")
        self.codes: Counter[str] = Counter()

    async def pause(self) -> None:
        """Wait as long as the image host has asked all of us to."""
        while (wait_seconds := self._paused_until - self._clock()) > 0:
            await anyio.sleep(wait_seconds)

    def heed(self, error: ItemError) -> None:
        """Let nobody ask the image host until the time that it names has passed.

        A time longer than a run waits is the item's alone: it comes back in a later run.
        """
        asked_seconds = error.retry_after_seconds or 0.0
        if error.edge is Edge.DOWNLOAD and asked_seconds <= self._longest_pause_seconds:
            self._paused_until = max(self._paused_until, self._clock() + asked_seconds)

    def answered(self) -> None:
        """Note an image that is stored: both edges have answered."""
        for health in self._health.values():
            health.answered()

    async def failed(self, error: ItemError) -> None:
        """Note a failed try; raises Outage where most of the last ones failed at its edge."""
        self.codes[error.code] += 1
        health = self._health[error.edge]
        health.failed(error.code, error.fault)
        if health.is_down:
            await self._suspect(error.edge)

    async def ask_in_the_end(self) -> None:
        """Raise Outage where an edge never answered, or went down with the last images."""
        for edge, health in self._health.items():
            if health.never_answered:
                await self._suspect(edge)
            elif health.ends_failing:
                await self._ask_once_more(edge)

    async def _suspect(self, edge: Edge) -> None:
        """Raise Outage, unless the edge proves to be well: then the items are bad, not it."""
        health = self._health[edge]
        if edge is Edge.DOWNLOAD and not health.is_unreachable and await self._host_delivers():
            health.acquit()
            return
        most = ", ".join(f"{code} {count}" for code, count in self.codes.most_common(3))
        who = "the image host" if edge is Edge.DOWNLOAD else "the store"
        raise Outage(edge, f"{who} fails for most images ({most})")

    async def _ask_once_more(self, edge: Edge) -> None:
        """Raise Outage where it still fails: the last tries are too few to be sure of it."""
        if edge is Edge.UPLOAD:
            try:
                await self._store.head(ASKED_KEY)
            except ItemError as error:
                raise Outage(edge, f"the store fails in the end ({error.reason})") from None
        elif await self._known_good_url() and not await self._host_delivers():
            raise Outage(edge, "the image host fails in the end, for what it has delivered, too")

    async def _host_delivers(self) -> bool:
        """Ask for an image that was delivered before; any answer about it but trouble will do."""
        url = await self._known_good_url()
        if url is None:
            return False
        try:
            async with self._http.open(url, most_bytes=0) as body:
                return body.status in _HEALTHY_STATUSES
        except ItemError:
            return False
