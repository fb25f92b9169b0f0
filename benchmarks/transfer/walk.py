"""What the judge's walk through a JPEG costs, by RE2 and by the standard library's `re`.

    python benchmarks/transfer/walk.py > benchmarks/results/walk.json

The ways take turns with the same image, in chunks as large as they arrive; SHA-256 of the same
bytes stands beside them.
"""

# ruff: noqa: SLF001 - the search within the walk is what is compared

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median

from work import Body, image

from collector.core.images import ImageScanner, jpeg

IMAGE_BYTES, CHUNK_BYTES = 1_800_000, 900_000
ROUNDS, IMAGES = 9, 50
SEED = 20_261_129

Chunks = Sequence[memoryview]


def main() -> None:
    """Measure, print one JSON object."""
    whole = b"".join(image(Body("walk", "jpg", IMAGE_BYTES), random.Random(SEED)))  # noqa: S311
    chunks = [memoryview(whole)[at : at + CHUNK_BYTES] for at in range(0, len(whole), CHUNK_BYTES)]
    ways = {"re2": walk, "re": walk_by_re, "sha256": sha256}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            spent[name].append(_seconds_per_gb(way, chunks))
    result = {
        "command": "python benchmarks/transfer/walk.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {"google-re2": version("google-re2")},
        "workload": f"a JPEG of {IMAGE_BYTES} bytes in chunks of {CHUNK_BYTES}",
        "rounds": ROUNDS,
        "cpu_seconds_per_gb": {name: round(median(took), 3) for name, took in spent.items()},
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def walk(chunks: Chunks) -> None:
    """Walk as the judge does."""
    scanner = ImageScanner()
    for chunk in chunks:
        scanner.feed(chunk)
    assert scanner.facts().complete


def walk_by_re(chunks: Chunks) -> None:
    """Walk with the same pattern in `re`."""
    by_re2 = jpeg._END_OF_SCAN
    jpeg._END_OF_SCAN = re.compile(by_re2.pattern)
    try:
        walk(chunks)
    finally:
        jpeg._END_OF_SCAN = by_re2


def sha256(chunks: Chunks) -> None:
    """Hash the bytes."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)


def _seconds_per_gb(way: Callable[[Chunks], None], chunks: Chunks) -> float:
    began = time.process_time()
    for _ in range(IMAGES):
        way(chunks)
    return (time.process_time() - began) / (IMAGES * IMAGE_BYTES) * 1e9


if __name__ == "__main__":
    main()
