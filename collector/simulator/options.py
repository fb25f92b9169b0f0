"""How the simulator is set up, and where tests may reach into what it serves."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from collector.simulator.draws import CAPACITY
from collector.simulator.population import Wallpaper
from collector.simulator.profile import WINDOW_SECONDS, Limit, Profile

_RANGES: dict[str, tuple[float, float]] = {
    "wallpapers": (0, CAPACITY),
    "requests_per_minute": (0, math.inf),
    "port": (0, 65_535),
    "latency_seconds": (0, math.inf),
    "image_latency_seconds": (0, math.inf),
    "image_bytes_per_second": (1, math.inf),
    "page_size": (1, math.inf),
    "sketchy_share": (0, 1),
    "nsfw_share": (0, 1),
}


class InvalidOptionError(ValueError):
    """The option `name` has a `value` outside `least` to `most`."""

    def __init__(self, name: str, value: float, least: float, most: float) -> None:
        limits = f"at least {least:g}" if most == math.inf else f"{least:.10g} to {most:.10g}"
        super().__init__(f"{name} must be {limits}, not {value}")
        self.name = name
        self.value = value
        self.least = least
        self.most = most


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """What is served, how fast, and to whom. Raises InvalidOptionError."""

    wallpapers: int = 200
    seed: int = 7
    images: Path | None = None  # a folder of pictures to serve in place of drawn ones
    requests_per_minute: int | None = None  # of the API; None: the limit of the profile; 0: none
    host: str = "127.0.0.1"  # where it listens, and what addresses of pictures begin with
    port: int = 0  # 0: a free one
    latency_seconds: float = 0.0  # before each API answer
    image_latency_seconds: float = 0.0  # before each answer of the image host
    image_bytes_per_second: int | None = None  # for each connection
    page_size: int = 24  # of listings, as documented
    sketchy_share: float = 0.0
    nsfw_share: float = 0.0
    api_keys: frozenset[str] = field(default=frozenset(), repr=False)  # those that are valid
    keeps_random_seed: bool = False  # the documentation promises it, the live site did not
    profile: Profile = field(default_factory=Profile)  # what else the API does

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InvalidOptionError(name, value, least, most)
        if self.sketchy_share + self.nsfw_share > 1:
            raise InvalidOptionError("nsfw_share", self.nsfw_share, 0, 1 - self.sketchy_share)

    @classmethod
    def of(cls, profile: Profile, **given: Any) -> SimulatorOptions:
        """Return the options of a profile; those that are `given` win over its defaults."""
        defaults = asdict(profile.defaults)
        defaults["image_bytes_per_second"] = defaults["image_bytes_per_second"] or None
        return cls(**{**defaults, "profile": profile, **given})

    @property
    def limit(self) -> Limit:
        """The rate limit: the profile's, with the requests a minute that were asked for."""
        if self.requests_per_minute is None:
            return self.profile.limit
        return replace(
            self.profile.limit, requests=self.requests_per_minute, window_seconds=WINDOW_SECONDS
        )


@dataclass(frozen=True, slots=True)
class Hooks:
    """Where a test edits what is served; each is optional and may return broken things."""

    # The items of a search page, just before they are serialised.
    listing: Callable[[list[dict[str, Any]]], list[object]] | None = None
    # The page number and the whole answer of a search, before it is serialised.
    page: Callable[[int, dict[str, Any]], dict[str, Any]] | None = None
    # What `/w/{id}` says of a wallpaper, before it is serialised; None means: not there.
    details: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    # A request for a full picture; None means: serve it as usual.
    image: Callable[[web.Request, Wallpaper], Awaitable[web.StreamResponse | None]] | None = None
