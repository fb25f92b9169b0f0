"""The options of a simulator, and the hooks with which tests edit what it serves."""

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
    """An option has a wrong value; `name` is the option's."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


@validated(frozen=True, slots=True, config=STRICT)
class SimulatorOptions(Defaults):
    """What is served, how fast, and to whom. A wrong value raises pydantic's ValidationError."""

    images: Path | None = None  # a folder of images to serve instead of drawn ones
    requests_per_minute: Count | None = None  # of the API; None: the profile's limit; 0: no limit
    host: str = "127.0.0.1"  # to listen on; addresses of images begin with it
    port: Annotated[int, Field(ge=0, le=65_535)] = 0  # 0: a free one
    page_size: Ordinal = 24  # of listings, as documented
    api_keys: frozenset[str] = Field(
        default=frozenset(), repr=False
    )  # in addition to the profile's
    profile: Profile = Field(default_factory=Profile)

    @classmethod
    def of(cls, profile: Profile, **given: Any) -> Self:
        """Return the profile's defaults, overridden by `given`. Raises InvalidOptionError."""
        try:
            return cls(**{**asdict(profile.defaults), "profile": profile, **given})
        except ValidationError as error:
            where = error.errors()[0]["loc"] or ("nsfw_share",)  # the one check of two keys
            raise InvalidOptionError(str(where[0]), first_problem(error)) from None

    @property
    def limit(self) -> Limit:
        """The profile's rate limit, with `requests_per_minute` in its place if that is set."""
        if self.requests_per_minute is None:
            return self.profile.limit
        return replace(
            self.profile.limit, requests=self.requests_per_minute, window_seconds=WINDOW_SECONDS
        )


@dataclass(frozen=True, slots=True)
class Hooks:
    """Callbacks that edit what is served. Each is optional and may return broken data."""

    # Edits the items of a search page.
    listing: Callable[[list[dict[str, Any]]], list[object]] | None = None
    # Edits the whole answer of a search; gets the page number, too.
    page: Callable[[int, dict[str, Any]], dict[str, Any]] | None = None
    # Edits the `data` of `/w/{id}`; returning None makes it a 404.
    details: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    # Answers a request for a full image; returning None serves the image as usual.
    image: Callable[[web.Request, Wallpaper], Awaitable[web.StreamResponse | None]] | None = None
