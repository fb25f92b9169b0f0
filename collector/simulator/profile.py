"""Profiles: the difficulties of the real API that the simulator can show.

A profile is a TOML file: a ready one, found by its name, or any other, found by its path. The
defaults are the real site on a quiet day, as far as that is known. A section with a wrong value
raises pydantic's ValidationError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from collector.simulator.draws import CAPACITY

WINDOW_SECONDS = 60.0  # observed on the live site in September 2026
EVERY_KEY = "*"
# The statuses that each answer of an outage may have, the usual one first. 520 to 526 are
# Cloudflare's own.
OUTAGE_STATUSES = {
    "error": (503, 500, 502, 504, *range(520, 527)),
    "challenge": (403, 503),
    "html": (200,),
}

_FOLDER = Path(__file__).parent / "profiles"
# Far more than all keys with a comment each. The parser's time grows with the square of a dotted
# key's parts: a key of a megabyte would take hours.
_MAX_FILE_BYTES = 65_536
_MAX_LINE_CHARACTERS = 1_000

# docs/simulator.md repeats the text below each key.
STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
Count = Annotated[int, Field(strict=True, ge=0)]
Ordinal = Annotated[int, Field(strict=True, ge=1)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Filter = Literal[
    "q", "categories", "purity", "topRange", "atleast", "resolutions", "ratios", "colors"
]


@dataclass(frozen=True, slots=True, config=STRICT)
class Defaults:
    """The simulator's options, unless the caller gives others."""

    wallpapers: Annotated[int, Field(strict=True, ge=0, le=CAPACITY)] = 200
    """How many wallpapers the site has at the start."""
    seed: Annotated[int, Field(strict=True)] = 7
    """Decides wallpapers, deletions and every other random choice."""
    sketchy_share: Share = 0.0
    """Share of sketchy wallpapers."""
    nsfw_share: Share = 0.0
    """Share of nsfw wallpapers, which are only shown to a valid key."""
    latency_seconds: Amount = 0.0
    """Delay of each answer of the API."""
    image_latency_seconds: Amount = 0.0
    """Delay of each answer of the image host."""
    image_bytes_per_second: Count = 0
    """Speed of each connection to the image host; 0: no limit."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.sketchy_share + self.nsfw_share > 1:
            raise ValueError("nsfw_share and sketchy_share add up to more than 1")
        return self


@dataclass(frozen=True, slots=True, config=STRICT)
class Limit:
    """The rate limit of the API."""

    requests: Count = 45
    """How many requests are answered in a window; 0: no limit, and no headers about it."""
    window_seconds: Annotated[float, Field(strict=True, ge=0.01, allow_inf_nan=False)] = (
        WINDOW_SECONDS
    )
    """Length of a window."""
    window: Literal["fixed", "sliding"] = "fixed"
    """fixed: it begins with a client's first request; sliding: the seconds before each request."""
    headers: StrictBool = True
    """Whether X-RateLimit headers are sent."""
    retry_after: Literal["seconds", "date"] = "seconds"
    """How Retry-After of a 429 says when the window ends."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Drift:
    """Uploads and deletions while a client reads page after page."""

    uploads_per_100_requests: Amount = 0.0
    """New wallpapers, evenly spread over requests."""
    max_uploads: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 1_000
    """Uploads end after this many."""
    deletions_per_100_requests: Amount = 0.0
    """Deleted wallpapers, evenly spread over requests; the seed decides which ones."""
    deleted_images: Literal["gone", "kept"] = "gone"
    """Whether the image host still has the image of a deleted wallpaper."""

    @property
    def upcoming(self) -> int:
        """How many wallpapers may be uploaded while the simulator is open."""
        return self.max_uploads if self.uploads_per_100_requests else 0


@dataclass(frozen=True, slots=True, config=STRICT)
class Listing:
    """Pages of `/search` and of collections."""

    empty_pages: tuple[Ordinal, ...] = ()
    """Pages that come without items, with the right meta."""
    short_pages: tuple[Ordinal, ...] = ()
    """Pages that come with their first two items only."""
    faulty_times: Count = 1
    """How often an empty or short page is faulty; 0: always."""
    total_off_by: Count = 0
    """How much meta.total, and last_page with it, may be wrong in each answer."""
    per_page: Literal["by_key", "string"] = "by_key"
    """Type of meta.per_page; by_key: a string for a valid key, else a number."""
    query: Literal["as_asked", "object"] = "as_asked"
    """Type of meta.query of a search; as_asked: null, the text, or an object for `id:`."""
    beyond_last: Literal["empty", "bad_request"] = "empty"
    """A page after the last one: 200 without items, or 400."""
    ignored_filters: tuple[Filter, ...] = ()
    """Parameters that a search ignores silently."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Account:
    """API keys, and the account that all valid keys belong to."""

    keys: tuple[StrictStr, ...] = ()
    """Valid API keys; `*`: every key is valid."""
    page_size: Literal[0, 24, 32, 64] = 0
    """Items on a page for a valid key; 0: as many as without a key."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Outage:
    """HTML in place of the API's answers, for a number of requests."""

    answer: Literal["error", "challenge", "html"] = "error"
    """An error page, a Cloudflare challenge page, or HTML in place of JSON."""
    status: Count = 0
    """error: 500, 502 to 504, 520 to 526; challenge: 403, 503; 0: 503, 403, or 200 for html."""
    from_request: Ordinal = 1
    """The first request that it affects."""
    requests: Ordinal = 1
    """How many requests it affects."""
    every_requests: Count = 0
    """It starts again after this many requests; 0: it happens once."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        statuses = OUTAGE_STATUSES[self.answer]
        if self.status not in (0, *statuses):
            *others, last = map(str, statuses)
            allowed = f"{', '.join(others)} or {last}" if others else last
            raise ValueError(f"status of {self.answer} must be {allowed}, not {self.status}")
        if 0 < self.every_requests <= self.requests:
            raise ValueError(f"every_requests must be more than requests, {self.requests}")
        return self


@dataclass(frozen=True, slots=True, config=STRICT)
class Profile:
    """The sections of a profile file, in its order."""

    defaults: Defaults = Field(default_factory=Defaults)
    limit: Limit = Field(default_factory=Limit)
    drift: Drift = Field(default_factory=Drift)
    listing: Listing = Field(default_factory=Listing)
    account: Account = Field(default_factory=Account, repr=False)
    outages: tuple[Outage, ...] = ()


class ProfileError(ValueError):
    """A file is not a profile. The message is one line that names the file and the wrong key."""


def ready_profiles() -> tuple[str, ...]:
    """Return the names of the profiles in the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def read_profile(name: str) -> Profile:
    """Return the ready profile of this name, else read the file at this path.

    Raises ProfileError if there is no such file, or if it holds anything unknown or impossible.
    """
    ready = ready_profiles()
    path = _FOLDER / f"{name}.toml" if name in ready else Path(name)
    try:
        content = tomllib.loads(_text_of(path))
    except FileNotFoundError:
        problem = f"{name}: no such file, and no ready profile: {', '.join(ready)}"
        raise ProfileError(problem) from None
    except OSError as error:
        raise ProfileError(f"{name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{name}: not TOML: {error}") from None
    return profile_of(content, name)


def _text_of(path: Path) -> str:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {_MAX_FILE_BYTES:,} bytes")
    text = path.read_text(encoding="utf-8")
    if any(len(line) > _MAX_LINE_CHARACTERS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MAX_LINE_CHARACTERS:,} characters")
    return text


def profile_of(content: Mapping[str, Any], file: str) -> Profile:
    """Return the profile in a parsed file. Raises ProfileError, which names `file`."""
    try:
        return TypeAdapter(Profile).validate_python(content)
    except ValidationError as error:
        raise ProfileError(f"{file}: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """Return the first wrong key and its problem as one line, in the terms of TOML."""
    first = error.errors(include_url=False, include_context=False)[0]
    # A person counts the tables of a list from 1.
    key = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return f"{key} is unknown"
    if first["type"] == "value_error":  # from a validator above, which names the keys
        return f"{key}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
    kind = {"dataclass_type": "should be a table", "tuple_type": "should be a list"}
    problem = kind.get(first["type"], first["msg"].removeprefix("Input "))
    return f"{key} {problem}, not {first['input']!r}"
