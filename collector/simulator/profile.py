"""What a profile can switch on: each behaviour of the real API that makes a client's life hard.

Every default is what the real site does on a quiet day, as far as that is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from collector.simulator.criteria import LARGEST_PAGE
from collector.simulator.identifiers import CAPACITY
from collector.simulator.journal import API_KINDS
from collector.simulator.rules import InvalidKeyError, Section, key, listed

# What each answer of an outage may have as its status, the usual one first. 520 to 526 are
# Cloudflare's own.
OUTAGE_STATUSES = {
    "error": (503, 500, 502, 504, *range(520, 527)),
    "challenge": (403, 503),
    "html": (200,),
}
FILTERS = ("q", "categories", "purity", "topRange", "atleast", "resolutions", "ratios", "colors")
EVERY_KEY = "*"
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
