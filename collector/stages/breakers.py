"""Breakers: what the attempts of a transfer say of its two edges, the image host and the store."""

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

# Of this key, only whether the store answers is asked.
ASKED_KEY = f"{KEY_PREFIX}asked.jpg"
# A host in good health sends the head of an image within seconds, however busy it is.
PROBE_SECONDS = 30.0
_OK = 200
# A name has 253 characters at most; more is no host that was ever asked.
_ORIGIN_CHARACTERS = 260
_ADVICE = "no image is given up for that. Try again later, or check WALLHAVEN_IMAGE_HOSTS"


class Breakers:
    """End a transfer whose edge is down, hold it back where the image host asks for it.

    `known_good` gives images that were stored from an origin (`scheme://host:port/`), the newest
    first, none if nothing ever was; `clock` is monotonic seconds. A pause longer than
    `longest_pause_seconds` is never made.
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
        # Where the last image that could not be fetched should have come from.
        self._failing_url = ""
        self._refused_url = ""
        self._has_stored = False
        self.codes: Counter[Code] = Counter()

    def suspect_codes(self, edge: Edge) -> list[Code]:
        """Return the codes for which, if `edge` is down, no item is to blame.

        Of the image host those of its last failures: what single items failed with before, or what
        another worker met, is not undone.
        """
        if edge is Edge.DOWNLOAD:
            return sorted(self._health[edge].failing_codes)
        return sorted(SUSPECT_CODES.get(edge, ()))

    async def pause(self) -> None:
        """Wait as long as the image host has asked all of us to."""
        while (wait_seconds := self._paused_until - self._clock()) > 0:
            await anyio.sleep(wait_seconds)

    def note_retry_after(self, error: ItemError) -> None:
        """Let no worker ask the image host until the time that it names has passed.

        A time longer than a run waits is the item's alone: it comes back in a later run.
        """
        asked_seconds = error.retry_after_seconds or 0.0
        if error.edge is Edge.DOWNLOAD and asked_seconds <= self._longest_pause_seconds:
            self._paused_until = max(self._paused_until, self._clock() + asked_seconds)

    def stored(self) -> None:
        """Note an image that is stored: both edges work."""
        self._has_stored = True
        for health in self._health.values():
            health.worked()

    async def failed(self, error: ItemError, url: str) -> None:
        """Note a failed attempt at the image `url`.

        Raises Outage if most of the last attempts failed at its edge, and it does not deliver
        what it delivered before; SettingsError if they failed since their host is not listed.
        """
        self.codes[error.code] += 1
        health = self._health[error.edge]
        health.failed(error.code, error.fault)
        if error.code is Code.HOST_REFUSED:
            self._refused_url = url
        elif error.edge is Edge.DOWNLOAD:
            self._failing_url = url
        # One probe serves all who fail meanwhile.
        async with self._probing:
            if health.is_down:
                await self._require_delivery(error.edge)

    async def require_working(self) -> None:
        """Raise as `failed` does if an edge never worked, or went down with the last images."""
        async with self._probing:
            for edge, health in self._health.items():
                if health.never_worked or health.refuses_hosts:
                    await self._require_delivery(edge)
                elif health.ends_failing:
                    await self._ask_once_more(edge)

    async def _require_delivery(self, edge: Edge) -> None:
        """Raise Outage unless the edge proves to work: then the items are bad, not it."""
        health = self._health[edge]
        if edge is Edge.UPLOAD:
            raise Outage(edge, f"the store fails for most images ({_most_frequent(health)})")
        if health.refuses_hosts:
            raise self._hosts_not_listed()
        failing = f"the image host fails for most images ({_most_frequent(health)})"
        if health.is_unreachable:
            raise Outage(edge, failing)
        known_good = await self._known_here()
        if not known_good:
            raise Outage(edge, f"{failing}, and nothing was ever stored from it; {_ADVICE}")
        if not await self._delivers_any(known_good):
            raise Outage(edge, f"{failing}, and for what it has delivered before; {_ADVICE}")
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

    async def _ask_once_more(self, edge: Edge) -> None:
        """Raise Outage if it still fails: the last attempts are too few to be sure of it."""
        if edge is Edge.UPLOAD:
            try:
                await self._store.head(ASKED_KEY)
            except ItemError as error:
                raise Outage(edge, f"the store fails in the end ({error.reason})") from None
            return
        known_good = await self._known_here()
        if known_good and not await self._delivers_any(known_good):
            raise Outage(edge, "the image host fails in the end, for what it has delivered, too")

    async def _known_here(self) -> Sequence[KnownGood]:
        return await self._known_good(_origin(self._failing_url))

    async def _delivers_any(self, known_good: Sequence[KnownGood]) -> bool:
        # One of them may have been deleted at the site since.
        for known in known_good:
            if await self._delivers(known):
                return True
        return False

    async def _delivers(self, known: KnownGood) -> bool:
        """Say whether the image is there as it was: an answer alone is not enough."""
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
