"""How many images at once your own store handles best, and the settings for it.

    make bench-tune                       the embedded server
    make bench-tune ENV_FILE=my.env       the store that the file names

Bodies of the size of a usual wallpaper are sent as parts of a multipart upload that is aborted at
the end: nothing is stored. The image host is not measured; the API lists at most 18 images a
second.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from collector.cli.progress import SilentProgress
from collector.core.images import ImageType
from collector.core.parts import PART_BYTES
from collector.interrupts import run_interruptible
from collector.ports import Upload
from collector.runtime.opening import Need, open_runtime
from collector.settings import Settings, load_settings
from collector.store import S3Store
from collector.store.probe import PROBE_PREFIX

BODY_BYTES = 1_800_000
STEPS = (1, 2, 4, 8, 16, 32, 64)
# Part of the best rate that is good enough: less concurrency needs less memory.
NEAR_THE_BEST = 0.9
# 45 requests a minute with 24 wallpapers each.
API_IMAGES_PER_SECOND = 18


@dataclass(frozen=True, slots=True)
class Step:
    """The result for one number of concurrent bodies."""

    in_flight: int
    images_per_second: float
    slowest_seconds: float


async def measure(settings: Settings, seconds: float) -> list[Step]:
    """Measure each number of concurrent bodies for `seconds`. Raises Outage."""
    most = {"collector_in_flight": max(STEPS)}
    async with open_runtime(
        settings.model_copy(update=most), Need.STORE, SilentProgress()
    ) as runtime:
        store = runtime.store
        key = f"{PROBE_PREFIX}tune"
        upload = await store.begin(key, content_type=ImageType.JPEG, token="tune")
        try:
            return [await _step(store, upload, in_flight, seconds) for in_flight in STEPS]
        finally:
            with anyio.CancelScope(shield=True):
                await store.abort(upload)


async def _step(store: S3Store, upload: Upload, in_flight: int, seconds: float) -> Step:
    body = os.urandom(BODY_BYTES)
    sha256 = hashlib.sha256(body).digest()
    took: list[float] = []
    until = time.monotonic() + seconds

    async def send(number: int) -> None:
        while (began := time.monotonic()) < until:
            await store.upload_part(upload, number, [body], size_bytes=BODY_BYTES, sha256=sha256)
            took.append(time.monotonic() - began)

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for number in range(1, in_flight + 1):
            tasks.start_soon(send, number)
    return Step(in_flight, len(took) / (time.monotonic() - began), max(took))


def advice(steps: list[Step]) -> list[str]:
    """Return the settings with the least concurrency that comes near the best rate."""
    best = max(step.images_per_second for step in steps)
    chosen = next(it for it in steps if it.images_per_second >= NEAR_THE_BEST * best)
    bound = (
        "the API, not your store" if best > API_IMAGES_PER_SECOND else "your network or your store"
    )
    return [
        f"COLLECTOR_IN_FLIGHT={chosen.in_flight}",
        f"COLLECTOR_MEMORY_BYTES={max(chosen.in_flight, 8) * PART_BYTES}",
        f"The best rate was {best:.0f} images a second; the API lists at most"
        f" {API_IMAGES_PER_SECOND}, so {bound} limits a backfill.",
    ]


def main() -> None:
    """Measure, then print a table and the settings."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env-file", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    settings = load_settings(options.env_file)
    steps = run_interruptible(lambda: measure(settings, options.seconds))
    out = sys.stdout.write
    out(f"bodies of {BODY_BYTES} bytes, {options.seconds:g} s for each concurrency\n\n")
    out("at once  images/s  MB/s  slowest\n")
    for step in steps:
        megabytes = step.images_per_second * BODY_BYTES / 1e6
        out(
            f"{step.in_flight:7}  {step.images_per_second:8.1f}  {megabytes:4.0f}"
            f"  {step.slowest_seconds:6.2f}s\n"
        )
    out("\n" + "\n".join(advice(steps)) + "\n")


if __name__ == "__main__":
    main()
