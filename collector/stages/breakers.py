"""Breakers: what failed transfers say about the two edges, the image host and the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import anyio

from collector.core.errors import Code, Edge, ItemError, Outage, Refusal, SettingsError
from collector.core.keys import KEY_PREFIX
from collector.core.retry import SUSPECT_CODES, EdgeHealth
from collector.core.transfers import KnownGood
from collector.ports import Body, Http, ObjectStore

# A key that need not exist: only whether the store answers counts.
ASKED_KEY = f"{KEY_PREFIX}asked.jpg"
# A healthy host sends the head of an image within seconds, even under load.
PROBE_SECONDS = 30.0
_OK = 200
# A host name has 253 characters at most.
_ORIGIN_CHARACTERS = 260
_ADVICE = "no image is given up for that. Try again later, or check WALLHAVEN_IMAGE_HOSTS"


class Breakers:
    """End a transfer whose edge is down, and pause it when the image host asks for a pause.

    `known_good` returns images that were stored from an origin (`scheme://host:port/`), newest
    first, none if nothing was stored from it. `clock` is monotonic seconds. Requests for a pause
    longer than `longest_pause_seconds` are ignored here.
    """

    def __init__(
        self,
        http: Http,
        store: ObjectStore,
        known_good: Callable[[str], Awaitable[Sequence[KnownGood]]],
        clock: Callable[[], float],
        longest_pause_seconds: float,
    ) -> None:
        self._http = http
        self._store = store
        self._known_good = known_good
        self._clock = clock
        self._longest_pause_seconds = longest_pause_seconds
        self._health = {edge: EdgeHealth(edge) for edge in (Edge.DOWNLOAD, Edge.UPLOAD)}
        self._probing = anyio.Lock()
        self._paused_until = float("-inf")
        # The last image that could not be fetched, and the last one on a host that is not listed.
        self._failing_url = ""
        self._refused_url = ""
        self._has_stored = False
        self.codes: Counter[Code] = Counter()

    def suspect_codes(self, edge: Edge) -> list[Code]:
        """Return the codes that are not the items' fault if `edge` is down.

        For the image host, the codes of its last failures only: earlier failures of single items,
        and those that another worker saw, are not undone.
        """
        if edge is Edge.DOWNLOAD:
            return sorted(self._health[edge].failing_codes)
        return sorted(SUSPECT_CODES.get(edge, ()))

    async def pause(self) -> None:
        """Wait as long as the image host has asked this process to."""
        while (wait_seconds := self._paused_until - self._clock()) > 0:
            await anyio.sleep(wait_seconds)

    def note_retry_after(self, error: ItemError) -> None:
        """Pause all requests to the image host for the time that the error names.

        Longer than `longest_pause_seconds`, it delays this item only, to a later run.
        """
        asked_seconds = error.retry_after_seconds or 0.0
        if error.edge is Edge.DOWNLOAD and asked_seconds <= self._longest_pause_seconds:
            self._paused_until = max(self._paused_until, self._clock() + asked_seconds)

    def stored(self) -> None:
        """Note a stored image: both edges work."""
        self._has_stored = True
        for health in self._health.values():
            health.worked()

    async def failed(self, error: ItemError, url: str) -> None:
        """Note a failed attempt at the image `url`.

        Raises Outage if most of the last attempts at its edge failed and the edge no longer
        delivers what it delivered before; SettingsError if they failed because their host is not
        listed.
        """
        self.codes[error.code] += 1
        health = self._health[error.edge]
        health.failed(error.code, error.fault)
        if error.code is Code.HOST_REFUSED:
            self._refused_url = url
        elif error.edge is Edge.DOWNLOAD:
            self._failing_url = url
        # Concurrent failures share one probe.
        async with self._probing:
            if health.is_down:
                await self._require_delivery(error.edge)

    async def require_working(self) -> None:
        """Raise as `failed` does if an edge never worked, or failed for the last images."""
        async with self._probing:
            for edge, health in self._health.items():
                if health.never_worked or health.refuses_hosts:
                    await self._require_delivery(edge)
                elif health.ends_failing:
                    await self._probe(edge)

    async def _require_delivery(self, edge: Edge) -> None:
        """Raise Outage unless the edge proves to work; if it does, the images are bad."""
        health = self._health[edge]
        if edge is Edge.UPLOAD:
            raise Outage(edge, f"the store fails for most images ({_most_frequent(health)})")
        if health.refuses_hosts:
            raise self._hosts_not_listed()
        failing = f"the image host fails for most images ({_most_frequent(health)})"
        if health.is_unreachable:
            raise Outage(edge, failing)
        known_good = await self._known_good(_origin(self._failing_url))
        if not known_good:
            raise Outage(edge, f"{failing}, and nothing was ever stored from it; {_ADVICE}")
        if not await self._delivers_any(known_good):
            raise Outage(edge, f"{failing}, and for images that it delivered before; {_ADVICE}")
        health.clear()

    def _hosts_not_listed(self) -> Outage | SettingsError:
        refused, all_failed = self.codes[Code.HOST_REFUSED], self.codes.total()
        problem = (
            f"the host of {refused} of {all_failed} failed images is not listed, such as"
            f" {_origin(self._refused_url)}; no image is given up for that. Add the host if you"
            " trust it"
        )
        if refused == all_failed and not self._has_stored:
            return SettingsError("WALLHAVEN_IMAGE_HOSTS", problem)
        return Refusal(Edge.DOWNLOAD, f"WALLHAVEN_IMAGE_HOSTS: {problem}")

    async def _probe(self, edge: Edge) -> None:
        """Raise Outage if the edge still fails: the last attempts are too few to tell."""
        if edge is Edge.UPLOAD:
            try:
                await self._store.head(ASKED_KEY)
            except ItemError as error:
                raise Outage(
                    edge, f"the store failed for the last images ({error.reason})"
                ) from None
            return
        known_good = await self._known_good(_origin(self._failing_url))
        if known_good and not await self._delivers_any(known_good):
            raise Outage(
                edge,
                "the image host failed for the last images and for images that it delivered before",
            )

    async def _delivers_any(self, known_good: Sequence[KnownGood]) -> bool:
        # The site may have deleted one of them since.
        for known in known_good:
            if await self._delivers(known):
                return True
        return False

    async def _delivers(self, known: KnownGood) -> bool:
        """Say whether the image comes with status 200 and its size."""
        with anyio.move_on_after(PROBE_SECONDS):
            try:
                async with self._http.open(known.url, max_bytes=known.size_bytes) as body:
                    return body.status == _OK and await _has_size(body, known.size_bytes)
            except ItemError:
                return False
        return False


async def _has_size(body: Body, size_bytes: int) -> bool:
    announced = body.headers.get("Content-Length")
    if announced is not None:
        return announced == str(size_bytes)
    received_bytes = 0
    async for chunk in body.chunks():
        received_bytes += len(chunk)
        if received_bytes > size_bytes:
            break
    return received_bytes == size_bytes


def _origin(url: str) -> str:
    """Return `scheme://host:port/` without a user, at most _ORIGIN_CHARACTERS of it."""
    try:
        address = urlsplit(url)
    except ValueError:
        return ""
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host[:_ORIGIN_CHARACTERS]}/"


def _most_frequent(health: EdgeHealth) -> str:
    return ", ".join(f"{code} {count}" for code, count in health.failing_codes.most_common(3))
