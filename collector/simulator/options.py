"""How the simulator is set up, and where tests may edit what it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass as validated

from collector.simulator.population import Wallpaper
from collector.simulator.profile import (
    STRICT,
    WINDOW_SECONDS,
    Count,
    Defaults,
    Limit,
    Ordinal,
    Profile,
    first_problem,
)


class InvalidOptionError(ValueError):
    """An option of `SimulatorOptions.of` has a value that it may not have."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


@validated(frozen=True, slots=True, config=STRICT)
class SimulatorOptions(Defaults):
    """What is served, how fast, and to whom. Raises pydantic's ValidationError."""

    images: Path | None = None  # a folder of images to serve in place of drawn ones
    requests_per_minute: Count | None = None  # of the API; None: the limit of the profile; 0: none
    host: str = "127.0.0.1"  # where it listens, and what addresses of images begin with
    port: Annotated[int, Field(ge=0, le=65_535)] = 0  # 0: a free one
    page_size: Ordinal = 24  # of listings, as documented
    api_keys: frozenset[str] = Field(default=frozenset(), repr=False)  # valid beside the profile's
    profile: Profile = Field(default_factory=Profile)  # what else the API does

    @classmethod
    def of(cls, profile: Profile, **given: Any) -> Self:
        """Return the options of a profile; those that are `given` win over its defaults.

        Raises InvalidOptionError.
        """
        try:
            return cls(**{**asdict(profile.defaults), "profile": profile, **given})
        except ValidationError as error:
            where = error.errors()[0]["loc"] or ("nsfw_share",)  # the one check of two keys
            raise InvalidOptionError(str(where[0]), first_problem(error)) from None

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
    # A request for a full image; None means: serve it as usual.
    image: Callable[[web.Request, Wallpaper], Awaitable[web.StreamResponse | None]] | None = None
