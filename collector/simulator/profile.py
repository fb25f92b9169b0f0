"""What a profile can switch on: each behaviour of the real API that makes a client's life hard.

A profile comes from a TOML file: a ready one by its name, any other by its path. Every default is
what the real site does on a quiet day, as far as that is known. A section with a wrong value
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

LARGEST_PAGE = 100_000  # beyond, the real site answers 400; where exactly is not known
WINDOW_SECONDS = 60.0  # observed on the live site in September 2026
EVERY_KEY = "*"
# What each answer of an outage may have as its status, the usual one first. 520 to 526 are
# Cloudflare's own.
OUTAGE_STATUSES = {
    "error": (503, 500, 502, 504, *range(520, 527)),
    "challenge": (403, 503),
    "html": (200,),
}

_FOLDER = Path(__file__).parent / "profiles"
# Far more than all keys with a comment each. The parser squares the parts of a dotted key: one of
# a megabyte would take it hours.
_MAX_FILE_BYTES = 65_536
_MAX_LINE_CHARACTERS = 1_000

# The text below a key is its meaning, which docs/simulator.md repeats.
STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
Count = Annotated[int, Field(strict=True, ge=0)]
Ordinal = Annotated[int, Field(strict=True, ge=1)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Bits = Literal["001", "010", "011", "100", "101", "110", "111"]
Filter = Literal[
    "q", "categories", "purity", "topRange", "atleast", "resolutions", "ratios", "colors"
]


@dataclass(frozen=True, slots=True, config=STRICT)
class Defaults:
    """What the options of the simulator are if nothing else is given."""

    wallpapers: Annotated[int, Field(strict=True, ge=0, le=CAPACITY)] = 200
    """How many wallpapers there are at the start."""
    seed: Annotated[int, Field(strict=True)] = 7
    """Decides wallpapers, deletions and every other draw."""
    sketchy_share: Share = 0.0
    """Share of sketchy wallpapers."""
    nsfw_share: Share = 0.0
    """Share of nsfw wallpapers, which only a valid key sees."""
    latency_seconds: Amount = 0.0
    """Before each answer of the API."""
    image_latency_seconds: Amount = 0.0
    """Before each answer of the image host."""
    image_bytes_per_second: Count = 0
    """Of each connection to the image host; 0: no limit."""
    # The documentation promises it, the live site does not do it.
    keeps_random_seed: StrictBool = False
    """Whether a random order keeps the seed that is sent."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.sketchy_share + self.nsfw_share > 1:
            raise ValueError("nsfw_share and sketchy_share are more than 1 together")
        return self


@dataclass(frozen=True, slots=True, config=STRICT)
class Limit:
    """The rate limit of the API."""

    requests: Count = 45
    """Answered in one window; 0: no limit and no headers of it."""
    window_seconds: Annotated[float, Field(strict=True, ge=0.01, allow_inf_nan=False)] = (
        WINDOW_SECONDS
    )
    """Length of the window."""
    window: Literal["fixed", "sliding"] = "fixed"
    """Fixed: begins with a client's first request; sliding: the seconds before each request."""
    client: Literal["address", "key"] = "address"
    """Who has a window: each address, or each key (an address if none is sent)."""
    headers: StrictBool = True
    """Whether X-RateLimit headers are sent."""
    retry_after: Literal["seconds", "date", "nonsense", "absurd", "none"] = "seconds"
    """Retry-After of a 429: when the window ends, or a wrong value, or none."""
    reset: Literal["epoch", "nonsense", "absurd", "none"] = "epoch"
    """X-RateLimit-Reset of a 429: when the window ends, or a wrong value, or none."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Drift:
    """Uploads and deletions while a client reads page after page."""

    uploads_per_minute: Amount = 0.0
    """New wallpapers, since the first request."""
    uploads_per_100_requests: Amount = 0.0
    """New wallpapers, evenly spread over requests."""
    most_uploads: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 1_000
    """Uploads end after so many."""
    deletions_per_minute: Amount = 0.0
    """Deleted wallpapers, since the first request."""
    deletions_per_100_requests: Amount = 0.0
    """Deleted wallpapers, evenly spread over requests; the seed decides which ones."""
    deleted_images: Literal["gone", "kept"] = "gone"
    """Whether the image host still has the image of a deleted wallpaper."""

    @property
    def upcoming(self) -> int:
        """How many wallpapers may be uploaded while the simulator is open."""
        uploads = self.uploads_per_minute or self.uploads_per_100_requests
        return self.most_uploads if uploads else 0


@dataclass(frozen=True, slots=True, config=STRICT)
class Listing:
    """Pages of `/search` and of collections."""

    empty_pages: tuple[Ordinal, ...] = ()
    """Pages that come without items, though their meta is right."""
    short_pages: tuple[Ordinal, ...] = ()
    """Pages that come with the first items alone."""
    short_page_items: Count = 2
    """How many items a short page has."""
    faulty_times: Count = 1
    """How often an empty or short page comes; 0: each time it is read."""
    total_off_by: Count = 0
    """How far meta.total, and last_page with it, may be off in each answer."""
    per_page: Literal["by_key", "int", "string"] = "by_key"
    """Type of meta.per_page; by_key: a string for a valid key, else a number."""
    query: Literal["as_asked", "null", "string", "object"] = "as_asked"
    """Type of meta.query of a search; as_asked: null, the text, or an object for `id:`."""
    beyond_last: Literal["empty", "bad_request"] = "empty"
    """A page after the last one: 200 without items, or 400."""
    largest_page: Ordinal = LARGEST_PAGE
    """Any page after this one is a 400."""
    ignored_filters: tuple[Filter, ...] = ()
    """Parameters of a search that are dropped without a word."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Account:
    """API keys, and the account that all valid ones belong to."""

    keys: tuple[StrictStr, ...] = ()
    """Valid API keys, or `*`: every key is valid."""
    refused_from_request: Count = 0
    """From this request on no key is valid; 0: never."""
    page_size: Literal[0, 24, 32, 64] = 0
    """Items of a page with a valid key; 0: as many as without."""
    purity: Bits = "100"
    """Purity of a search with a valid key that does not say it."""
    categories: Bits = "111"
    """Categories of a search with a valid key that does not say them."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Outage:
    """Something that answers in place of the API, for so many requests or so many seconds."""

    answer: Literal["error", "challenge", "html"] = "error"
    """An error page, a Cloudflare challenge page, or HTML in place of JSON."""
    status: Count = 0
    """500, 502, 503, 504, 520 to 526; of a challenge 403 or 503; 0: 503, 403 or, of html, 200."""
    from_request: Ordinal = 1
    """The first request that meets it."""
    requests: Count = 0
    """How many meet it; either this or `seconds` is needed."""
    every_requests: Count = 0
    """It begins again after so many requests; 0: it comes once."""
    from_second: Amount = 0.0
    """When it begins, after the first request."""
    seconds: Amount = 0.0
    """How long it takes."""
    endpoints: tuple[Literal["search", "wallpaper", "tag", "settings", "collections"], ...] = ()
    """Which endpoints it takes down; none named: all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        statuses = OUTAGE_STATUSES[self.answer]
        if self.status not in (0, *statuses):
            *others, last = map(str, statuses)
            allowed = f"{', '.join(others)} or {last}" if others else last
            raise ValueError(f"status of {self.answer} must be {allowed}, not {self.status}")
        if bool(self.requests) == bool(self.seconds):
            raise ValueError("either requests or seconds must be set")
        if self.seconds and (self.from_request > 1 or self.every_requests):
            raise ValueError("seconds goes with from_second alone")
        if self.requests and self.from_second:
            raise ValueError("requests goes with from_request, not with from_second")
        if 0 < self.every_requests <= self.requests:
            raise ValueError(f"every_requests must be more than requests, {self.requests}")
        return self


@dataclass(frozen=True, slots=True, config=STRICT)
class Profile:
    """One rehearsal: the sections of a profile file, in its order."""

    defaults: Defaults = Field(default_factory=Defaults)
    limit: Limit = Field(default_factory=Limit)
    drift: Drift = Field(default_factory=Drift)
    listing: Listing = Field(default_factory=Listing)
    account: Account = Field(default_factory=Account, repr=False)
    outages: tuple[Outage, ...] = ()


class ProfileError(ValueError):
    """A file is no profile. The message is one line with the file and the key that is wrong."""


def ready_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that are part of the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def read_profile(name: str) -> Profile:
    """Return a ready profile, or that of the file at this path; a ready name wins.

    Raises ProfileError if there is no such file, or if it says anything that no profile says.
    """
    ready = ready_profiles()
    path = _FOLDER / f"{name}.toml" if name in ready else Path(name)
    try:
        content = tomllib.loads(_text_of(path))
    except FileNotFoundError:
        problem = f"{name}: no such file, nor a ready profile: {', '.join(ready)}"
        raise ProfileError(problem) from None
    except OSError as error:
        raise ProfileError(f"{name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{name}: is no TOML: {error}") from None
    return profile_of(content, name)


def _text_of(path: Path) -> str:
    """Return the text of a file; raises ValueError if it is longer than any profile."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"it has more than {_MAX_FILE_BYTES:,} bytes")
    text = path.read_text(encoding="utf-8")
    if any(len(line) > _MAX_LINE_CHARACTERS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MAX_LINE_CHARACTERS:,} characters")
    return text


def profile_of(content: Mapping[str, Any], file: str) -> Profile:
    """Return the profile that a parsed file describes. Raises ProfileError, which names `file`."""
    try:
        return TypeAdapter(Profile).validate_python(content)
    except ValidationError as error:
        raise ProfileError(f"{file}: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """Return the first wrong key and what is wrong with it, in one line and in TOML's words."""
    first = error.errors(include_url=False, include_context=False)[0]
    # TOML knows no index: the first of a list is 1.
    key = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return f"{key} is unknown"
    if first["type"] == "value_error":  # of one of the checks above, which names keys
        return f"{key}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
    kind = {"dataclass_type": "should be a table", "tuple_type": "should be a list"}
    problem = kind.get(first["type"], first["msg"].removeprefix("Input "))
    return f"{key} {problem}, not {first['input']!r}"
