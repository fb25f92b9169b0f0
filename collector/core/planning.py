"""What a backfill would cost: arithmetic on a listing's totals and a sample of its file sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from statistics import fmean, stdev

from collector.core.crawl import PAGES_PER_SLICE
from collector.core.parts import PART_BYTES

BYTES_PER_GIGABYTE = 1e9
_MINUTES_PER_HOUR = 60
# Beside its parts, a multipart upload is begun by one POST and completed by another.
_REQUESTS_AROUND_PARTS = 2
# 19 of 20 means of samples lie no farther from the true one.
_STANDARD_ERRORS = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, and between what it lies 19 times of 20; all equal where nothing is guessed.

    The range holds for a random sample of many images. It is too narrow where sizes depend on the
    place in the list, or where large ones are so rare that the sample has none.
    """

    likely: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill of `images` on `pages` would cost; the transfer's own time is not in it.

    `hours` are those of the API calls at `requests_per_minute`. `gigabytes` (1e9 bytes) and
    `puts`, the requests that a store bills as PUT, are for images that are all new; None where no
    file size is known.
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
    """What the database has already, of any search: rows, and those whose image is stored."""

    known_wallpapers: int
    stored_images: int


def plan_backfill(
    *, images: int, pages: int, sizes_bytes: Sequence[int], requests_per_minute: int
) -> Plan:
    """Return what a backfill costs where the list has `images`, and some of them these sizes."""
    api_calls = backfill_api_calls(pages)
    size_bytes = estimated_total(sizes_bytes, images)
    more_puts = estimated_total([put_requests(size) - 1 for size in sizes_bytes], images)
    return Plan(
        images=images,
        pages=pages,
        api_calls=api_calls,
        requests_per_minute=requests_per_minute,
        hours=api_calls / requests_per_minute / _MINUTES_PER_HOUR,
        gigabytes=size_bytes and _scaled(size_bytes, 1 / BYTES_PER_GIGABYTE),
        # Each image needs one at least, whatever the sample says.
        puts=more_puts and _raised(more_puts, images),
        sampled_images=len(sizes_bytes),
    )


def backfill_api_calls(pages: int, pages_per_slice: int = PAGES_PER_SLICE) -> int:
    """Return the calls of a Crawl of a list that does not change meanwhile.

    Each page is read once, and once more where it joins two slices. Page 1 is, too, which came
    first to tell the end, unless it is a slice of its own, and the last page of more than one slice
    in the end. A page is read even of an empty list.
    """
    pages = max(1, pages)
    joints = -(-pages // pages_per_slice) - 1
    return pages + joints + (min(pages, pages_per_slice) > 1) + (joints > 0)


def put_requests(size_bytes: int) -> int:
    """Return the requests that store an image and are billed as PUT: PUT, POST and each part.

    Prices: https://aws.amazon.com/s3/pricing/ (2026-11-23).
    """
    if size_bytes <= PART_BYTES:
        return 1
    return -(-size_bytes // PART_BYTES) + _REQUESTS_AROUND_PARTS


def sampled_pages(last_page: int) -> tuple[int, ...]:
    """Return the first, the middle and the last page, each once: sizes drift with age."""
    last_page = max(1, last_page)
    return tuple(sorted({1, (1 + last_page) // 2, last_page}))


def estimated_total(sample: Sequence[float], population: int) -> Estimate | None:
    """Estimate the sum of `population` numbers of which `sample` are some; None from too few.

    Exact where the sample is all of them. The error is that of a simple random sample with the
    correction for a finite population (W. G. Cochran, Sampling Techniques, 3rd edition, ch. 2).
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


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.likely * factor, estimate.least * factor, estimate.most * factor)


def _raised(estimate: Estimate, by: float) -> Estimate:
    return Estimate(estimate.likely + by, estimate.least + by, estimate.most + by)
