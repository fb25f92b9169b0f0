"""Estimate the cost of a backfill from a listing's totals and a sample of its file sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from statistics import fmean, stdev

from collector.core.crawl import PAGES_PER_BATCH
from collector.core.parts import PART_BYTES

BYTES_PER_GIGABYTE = 1e9
_MINUTES_PER_HOUR = 60
# A multipart upload needs one POST to begin and one to complete, in addition to its parts.
_REQUESTS_AROUND_PARTS = 2
# 95 % confidence: 19 of 20 sample means are within this many standard errors of the true mean.
_STANDARD_ERRORS = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate and its 95 % confidence interval, all equal if nothing had to be estimated.

    The interval holds for a random sample of many images. It is too narrow if sizes depend on the
    position in the list, or if large ones are so rare that the sample has none.
    """

    likely: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill of `images` on `pages` would cost.

    `hours` is the time of the API calls at `requests_per_minute`, without that of the transfer.
    `gigabytes` (1e9 bytes) and `puts`, the requests that a store bills as PUT, assume that all
    images are new; None if too few file sizes are known.
    """

    images: int
    pages: int
    api_calls: int
    requests_per_minute: int
    hours: float
    gigabytes: Estimate | None
    puts: Estimate | None
    sampled_images: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """How many rows and stored images the database has already, of any search."""

    known_wallpapers: int
    stored_images: int


def plan_backfill(
    *, images: int, pages: int, sizes_bytes: Sequence[int], requests_per_minute: int
) -> Plan:
    """Return the cost for a list of `images` of which `sizes_bytes` are a sample."""
    api_calls = backfill_api_calls(pages)
    size_bytes = estimated_total(sizes_bytes, images)
    # Each image needs one PUT at least, whatever the sample says: only the others are estimated.
    more_puts = estimated_total([put_requests(size) - 1 for size in sizes_bytes], images)
    return Plan(
        images=images,
        pages=pages,
        api_calls=api_calls,
        requests_per_minute=requests_per_minute,
        hours=api_calls / requests_per_minute / _MINUTES_PER_HOUR,
        gigabytes=size_bytes and _changed(size_bytes, lambda size: size / BYTES_PER_GIGABYTE),
        puts=more_puts and _changed(more_puts, lambda puts: puts + images),
        sampled_images=len(sizes_bytes),
    )


def backfill_api_calls(pages: int, pages_per_batch: int = PAGES_PER_BATCH) -> int:
    """Return how many API calls a Crawl makes if the list does not change meanwhile.

    It reads each page once, and one page more for each border between batches. Page 1, which it
    reads first to learn where the list ends, is read again unless its batch has only one page. If
    there are several batches, the last page is read again in the end. An empty list has one page.
    """
    pages = max(1, pages)
    borders = -(-pages // pages_per_batch) - 1
    return pages + borders + (min(pages, pages_per_batch) > 1) + (borders > 0)


def put_requests(size_bytes: int) -> int:
    """Return how many requests billed as PUT (PUT, POST, part) it takes to store an image.

    Prices: https://aws.amazon.com/s3/pricing/ (2026-11-23).
    """
    if size_bytes <= PART_BYTES:
        return 1
    return -(-size_bytes // PART_BYTES) + _REQUESTS_AROUND_PARTS


def sampled_pages(last_page: int) -> tuple[int, ...]:
    """Return the first, middle and last page, each once: file sizes change with age."""
    last_page = max(1, last_page)
    return tuple(sorted({1, (1 + last_page) // 2, last_page}))


def estimated_total(sample: Sequence[float], population: int) -> Estimate | None:
    """Estimate the sum of `population` numbers from a `sample`; None if it has fewer than two.

    Exact if the sample is complete. The error is that of a simple random sample with finite
    population correction (W. G. Cochran, Sampling Techniques, 3rd edition, ch. 2).
    """
    seen, known = len(sample), fsum(sample)
    if seen >= population:
        return Estimate(known, known, known)
    if seen < 2:
        return None
    likely = fmean(sample) * population
    unseen_share = 1 - seen / population
    error = _STANDARD_ERRORS * population * stdev(sample) * sqrt(unseen_share / seen)
    return Estimate(likely, max(known, likely - error), likely + error)


def _changed(estimate: Estimate, change: Callable[[float], float]) -> Estimate:
    return Estimate(change(estimate.likely), change(estimate.least), change(estimate.most))
