"""What a profile can switch on: each behaviour of the real API that makes a client's life hard.

Every default is what the real site does on a quiet day, as far as that is known.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from collector.simulator.draws import CAPACITY
from collector.simulator.journal import API_KINDS

_RULE = "rule"
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class InvalidKeyError(ValueError):
    """The key `name` of a section has a value that it may not have; `problem` says why."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Rule:
    """What a key means and may be: from `least` to `most`, or one of `choices` if there are any.

    `kind` is the type of its value, or of each of its values where `many`.
    """

    kind: type
    many: bool
    meaning: str
    least: float = 0
    most: float = math.inf
    choices: tuple[object, ...] = ()

    def check(self, name: str, value: object) -> None:
        """Raise InvalidKeyError unless `value` is one that this key may have."""
        if self.many and not isinstance(value, tuple):
            raise InvalidKeyError(name, f"must be a list, not {value!r}")
        for each in value if self.many and isinstance(value, tuple) else (value,):
            problem = self._problem(each)
            if problem:
                raise InvalidKeyError(name, problem)

    def _problem(self, value: object) -> str:
        if not _is(value, self.kind):
            return f"must be {_WORDS[self.kind]}, not {value!r}"
        if self.choices and value not in self.choices:
            return f"must be {listed(self.choices)}, not {value!r}{suggestion(value, self.choices)}"
        if isinstance(value, int | float) and not self.least <= value <= self.most:
            limits = f"at least {self.least:g}"
            if self.most < math.inf:
                limits = f"{self.least:g} to {self.most:.10g}"
            return f"must be {limits}, not {value!r}"
        return ""


def key(default: Any, meaning: str, *, of: type | None = None, **limits: Any) -> Any:
    """Return the field of a section's key; `of` is the type of each value where it has many."""
    rule = Rule(of or type(default), of is not None, meaning, **limits)
    return field(default=default, metadata={_RULE: rule})


@dataclass(frozen=True, slots=True)
class Section:
    """A group of keys. Raises InvalidKeyError for the first that has a wrong value."""

    def __post_init__(self) -> None:
        for name, rule in rules_of(type(self)).items():
            rule.check(name, getattr(self, name))


def rules_of(section: type[Section]) -> dict[str, Rule]:
    """Return the rule of each key of a section, in order."""
    return {each.name: each.metadata[_RULE] for each in fields(section)}


def listed(choices: Sequence[object]) -> str:
    """Return `a, b or c`."""
    *firsts, last = map(str, choices)
    return f"{', '.join(firsts)} or {last}" if firsts else last


def suggestion(word: object, choices: Sequence[object]) -> str:
    """Return `; is x meant?` for the choice that is nearest to a wrong word, else nothing."""
    nearest = get_close_matches(str(word), [str(choice) for choice in choices], n=1)
    return f"; is {nearest[0]} meant?" if nearest else ""


def _is(value: object, kind: type) -> bool:
    """Return whether a value is of a kind: true is no number, a whole number is a number."""
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)


# What each answer of an outage may have as its status, the usual one first. 520 to 526 are
# Cloudflare's own.
OUTAGE_STATUSES = {
    "error": (503, 500, 502, 504, *range(520, 527)),
    "challenge": (403, 503),
    "html": (200,),
}
FILTERS = ("q", "categories", "purity", "topRange", "atleast", "resolutions", "ratios", "colors")
EVERY_KEY = "*"
LARGEST_PAGE = 100_000  # beyond, the real site answers 400; where exactly is not known
WINDOW_SECONDS = 60.0  # observed on the live site in September 2026
_BITS = tuple(f"{bits:03b}" for bits in range(1, 8))


@dataclass(frozen=True, slots=True)
class Defaults(Section):
    """What the options of the simulator are where nobody says otherwise."""

    wallpapers: int = key(200, "how many wallpapers there are at the start", most=CAPACITY)
    seed: int = key(7, "decides wallpapers, deletions and every other draw", least=-math.inf)
    sketchy_share: float = key(0.0, "share of sketchy wallpapers", most=1)
    nsfw_share: float = key(0.0, "share of nsfw wallpapers, which only a valid key sees", most=1)
    latency_seconds: float = key(0.0, "before each answer of the API")
    image_latency_seconds: float = key(0.0, "before each answer of the image host")
    image_bytes_per_second: int = key(0, "of each connection to the image host; 0: no limit")
    keeps_random_seed: bool = key(False, "whether a random order keeps the seed that is sent")

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.sketchy_share + self.nsfw_share > 1:
            raise InvalidKeyError("nsfw_share", "and sketchy_share are more than 1 together")


@dataclass(frozen=True, slots=True)
class Limit(Section):
    """The rate limit of the API."""

    requests: int = key(45, "answered in one window; 0: no limit and no headers of it")
    window_seconds: float = key(60.0, "length of the window", least=0.01)
    window: str = key(
        "fixed",
        "fixed: begins with a client's first request; sliding: the seconds before each request",
        choices=("fixed", "sliding"),
    )
    client: str = key(
        "address",
        "who has a window: each address, or each key (an address where none is sent)",
        choices=("address", "key"),
    )
    headers: bool = key(True, "whether X-RateLimit headers are sent")
    retry_after: str = key(
        "seconds",
        "Retry-After of a 429: when the window ends, or a wrong value, or none",
        choices=("seconds", "date", "nonsense", "absurd", "none"),
    )
    reset: str = key(
        "epoch",
        "X-RateLimit-Reset of a 429: when the window ends, or a wrong value, or none",
        choices=("epoch", "nonsense", "absurd", "none"),
    )


@dataclass(frozen=True, slots=True)
class Drift(Section):
    """Uploads and deletions while a client reads page after page."""

    uploads_per_minute: float = key(0.0, "new wallpapers, since the first request")
    uploads_per_100_requests: float = key(0.0, "new wallpapers, evenly spread over requests")
    most_uploads: int = key(1_000, "uploads end after so many", most=1_000_000)
    deletions_per_minute: float = key(0.0, "deleted wallpapers, since the first request")
    deletions_per_100_requests: float = key(
        0.0, "deleted wallpapers, evenly spread over requests; which ones, the seed decides"
    )
    deleted_images: str = key(
        "gone",
        "whether the image host still has the picture of what was deleted",
        choices=("gone", "kept"),
    )

    @property
    def upcoming(self) -> int:
        """How many wallpapers may be uploaded while the simulator is open."""
        uploads = self.uploads_per_minute or self.uploads_per_100_requests
        return self.most_uploads if uploads else 0


@dataclass(frozen=True, slots=True)
class Listing(Section):
    """Pages of `/search` and of collections."""

    empty_pages: tuple[int, ...] = key(
        (), "pages that come without items, though their meta is right", of=int, least=1
    )
    short_pages: tuple[int, ...] = key(
        (), "pages that come with the first items alone", of=int, least=1
    )
    short_page_items: int = key(2, "how many items a short page has")
    faulty_times: int = key(1, "how often an empty or short page comes; 0: each time it is read")
    total_off_by: int = key(
        0, "how far meta.total, and last_page with it, may be off, anew in each answer"
    )
    per_page: str = key(
        "by_key",
        "type of meta.per_page; by_key: a string for a valid key, else a number",
        choices=("by_key", "int", "string"),
    )
    query: str = key(
        "as_asked",
        "type of meta.query of a search; as_asked: null, the text, or an object for `id:`",
        choices=("as_asked", "null", "string", "object"),
    )
    beyond_last: str = key(
        "empty",
        "a page behind the last one: 200 without items, or 400",
        choices=("empty", "bad_request"),
    )
    largest_page: int = key(LARGEST_PAGE, "any page behind this one is a 400", least=1)
    ignored_filters: tuple[str, ...] = key(
        (), "parameters of a search that are dropped without a word", of=str, choices=FILTERS
    )


@dataclass(frozen=True, slots=True)
class Account(Section):
    """API keys, and the account that all valid ones belong to."""

    keys: tuple[str, ...] = key((), "valid API keys, or `*`: every key is valid", of=str)
    refused_from_request: int = key(0, "from this request on no key is valid; 0: never")
    page_size: int = key(
        0, "items of a page with a valid key; 0: as many as without", choices=(0, 24, 32, 64)
    )
    purity: str = key(
        "100", "purity of a search with a valid key that does not say it", choices=_BITS
    )
    categories: str = key(
        "111", "categories of a search with a valid key that does not say them", choices=_BITS
    )


@dataclass(frozen=True, slots=True)
class Outage(Section):
    """Something that answers in place of the API, for so many requests or so many seconds."""

    answer: str = key(
        "error",
        "an error page, a Cloudflare challenge page, or HTML where JSON is expected",
        choices=tuple(OUTAGE_STATUSES),
    )
    status: int = key(
        0, "500, 502, 503, 504, 520 to 526; of a challenge 403 or 503; 0: 503, 403 or, of html, 200"
    )
    from_request: int = key(1, "the first request that meets it", least=1)
    requests: int = key(0, "how many meet it; either this or `seconds` is needed")
    every_requests: int = key(0, "it begins again after so many requests; 0: it comes once")
    from_second: float = key(0.0, "when it begins, counted from the first request")
    seconds: float = key(0.0, "how long it takes")
    endpoints: tuple[str, ...] = key(
        (), "which endpoints it takes down; none named: all", of=str, choices=API_KINDS
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        statuses = OUTAGE_STATUSES[self.answer]
        if self.status not in (0, *statuses):
            allowed = listed(sorted(statuses))
            raise InvalidKeyError("status", f"of {self.answer} is {allowed}, not {self.status}")
        if bool(self.requests) == bool(self.seconds):
            raise InvalidKeyError("requests", "or seconds must be set, one of them")
        if self.seconds and (self.from_request > 1 or self.every_requests):
            raise InvalidKeyError("seconds", "goes with from_second alone")
        if self.requests and self.from_second:
            raise InvalidKeyError("requests", "goes with from_request, not with from_second")
        if 0 < self.every_requests <= self.requests:
            raise InvalidKeyError("every_requests", f"must be more than requests, {self.requests}")


@dataclass(frozen=True, slots=True)
class Profile:
    """One rehearsal: sections of a profile file, in its order."""

    defaults: Defaults = field(default_factory=Defaults)
    limit: Limit = field(default_factory=Limit)
    drift: Drift = field(default_factory=Drift)
    listing: Listing = field(default_factory=Listing)
    account: Account = field(default_factory=Account, repr=False)
    outages: tuple[Outage, ...] = ()


_FOLDER = Path(__file__).parent / "profiles"
_SUFFIX = ".toml"
# Far more than all keys with a comment each. The parser squares the parts of a dotted key: one of
# a megabyte would take it hours.
_MAX_FILE_BYTES = 65_536
_MAX_LINE_CHARACTERS = 1_000

# The tables of a profile file; those of the last one may come many times.
SECTIONS: dict[str, type[Section]] = {
    "defaults": Defaults,
    "limit": Limit,
    "drift": Drift,
    "listing": Listing,
    "account": Account,
    "outages": Outage,
}

S = TypeVar("S", bound=Section)


class ProfileError(ValueError):
    """`file` is no profile: `key` is what is wrong in it, None for the file itself."""

    def __init__(self, file: str, problem: str, key: str | None = None) -> None:
        super().__init__(f"{file}: {key} {problem}" if key else f"{file}: {problem}")
        self.file = file
        self.problem = problem
        self.key = key


def ready_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that are part of the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob(f"*{_SUFFIX}")))


def read_profile(name: str) -> Profile:
    """Return a ready profile, or that of the file at this path; a ready name wins.

    Raises ProfileError if there is no such file, or if it says anything that no profile says.
    """
    ready = ready_profiles()
    path = _FOLDER / f"{name}{_SUFFIX}" if name in ready else Path(name)
    try:
        content = tomllib.loads(_text_of(path))
    except FileNotFoundError:
        problem = f"no such file, nor a ready profile: {listed(ready)}{suggestion(name, ready)}"
        raise ProfileError(name, problem) from None
    except OSError as error:
        raise ProfileError(name, str(error.strerror)) from None
    except (ValueError, RecursionError) as error:
        raise ProfileError(name, f"is no TOML: {error}") from None
    return profile_of(content, name)


def _text_of(path: Path) -> str:
    """Return the text of a file; raises ValueError where it is longer than any profile."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"it has more than {_MAX_FILE_BYTES:,} bytes")
    text = path.read_text(encoding="utf-8")
    if any(len(line) > _MAX_LINE_CHARACTERS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MAX_LINE_CHARACTERS:,} characters")
    return text


def profile_of(content: Mapping[str, Any], file: str) -> Profile:
    """Return the profile that a parsed file describes. Raises ProfileError, which names `file`."""
    _refuse_unknown(content, tuple(SECTIONS), file, "")
    return Profile(
        defaults=_section(Defaults, content.get("defaults", {}), file, "defaults"),
        limit=_section(Limit, content.get("limit", {}), file, "limit"),
        drift=_section(Drift, content.get("drift", {}), file, "drift"),
        listing=_section(Listing, content.get("listing", {}), file, "listing"),
        account=_section(Account, content.get("account", {}), file, "account"),
        outages=tuple(_outages(content.get("outages", []), file)),
    )


def _outages(tables: object, file: str) -> Iterator[Outage]:
    if not isinstance(tables, list):
        raise ProfileError(file, "must be tables, each headed [[outages]]", "outages")
    for number, table in enumerate(tables, start=1):
        yield _section(Outage, table, file, f"outages {number}")


def _section(kind: type[S], table: object, file: str, name: str) -> S:
    if not isinstance(table, dict):
        raise ProfileError(file, f"must be a table, not {table!r}", name)
    _refuse_unknown(table, tuple(rules_of(kind)), file, f"{name}.")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    try:
        return kind(**values)
    except InvalidKeyError as error:
        raise ProfileError(file, error.problem, f"{name}.{error.name}") from None


def _refuse_unknown(
    table: Mapping[str, object], known: tuple[str, ...], file: str, prefix: str
) -> None:
    for key in table:
        if key not in known:
            raise ProfileError(file, f"is unknown{suggestion(key, known)}", f"{prefix}{key}")
