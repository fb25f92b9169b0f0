"""The contenders: the collector, the peers, and the lower bounds, each in its own process."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rig import BUCKET, Rig
from work import Body

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Job:
    """The bodies to transfer, and the two ends."""

    bodies: list[Body]
    rig: Rig
    folder: Path
    in_flight: int = 16

    @property
    def bytes(self) -> int:
        """The size of all bodies."""
        return sum(body.size_bytes for body in self.bodies)

    def order(self, **more: Any) -> str:
        """Return the input of `carry.py`, `floor.py` and `original.py`."""
        return json.dumps(
            {
                "bodies": [asdict(body) for body in self.bodies],
                "origin_url": self.rig.origin_url,
                "sink_url": self.rig.sink_url,
                **more,
            }
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process, with the certificate to trust."""
        if self.rig.certificate is None:
            return dict(os.environ)
        trusted = str(self.rig.certificate)
        names = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
        return {**os.environ, **dict.fromkeys(names, trusted)}


@dataclass(frozen=True, slots=True)
class Taken:
    """The cost of one pass: CPU of the client's processes, kernel included, and wall time."""

    cpu_seconds: float
    wall_seconds: float
    peak_rss_bytes: int = 0


Contender = Callable[[Job], Taken]


def ours(job: Job) -> Taken:
    """The collector: one process, its backlog in memory."""
    return _together(start(job, in_flight=job.in_flight))


def ours_by_aiohttp(job: Job) -> Taken:
    """The collector without the fast client for images."""
    return _together(start(job, in_flight=job.in_flight, is_fast=False))


def ours_two_processes(job: Job) -> Taken:
    """The collector: two processes with half of the bodies each."""
    return _together(*(start(half, in_flight=job.in_flight) for half in _halves(job)))


def _halves(job: Job) -> list[Job]:
    """Split the bodies as a shared backlog would: each goes to the half with fewer bytes."""
    dealt: tuple[list[Body], list[Body]] = ([], [])
    for body in job.bodies:
        min(dealt, key=lambda half: sum(it.size_bytes for it in half)).append(body)
    return [replace(job, bodies=half) for half in dealt]


def start(job: Job, **more: Any) -> subprocess.Popen[str]:
    """Start a worker of the collector on these bodies."""
    worker = subprocess.Popen(
        [sys.executable, str(HERE / "carry.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=job.environment,
    )
    assert worker.stdin is not None
    worker.stdin.write(job.order(**more))
    worker.stdin.close()
    return worker


def ended(workers: Iterable[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """Wait for workers of the collector; return their answers."""
    answers = []
    for worker in workers:
        assert worker.stdout is not None
        said = worker.stdout.read()
        if worker.wait():
            raise SystemExit(f"a worker ended with {worker.returncode}")
        answers.append(json.loads(said))
    return answers


def _together(*workers: subprocess.Popen[str]) -> Taken:
    costs = ended(workers)
    for cost in costs:
        if cost["report"]["failed_attempts"]:
            raise SystemExit(f"some images were not transferred: {cost['report']}")
    return Taken(
        cpu_seconds=sum(cost["cpu_seconds"] for cost in costs),
        wall_seconds=max(it["ended_at"] for it in costs) - min(it["began_at"] for it in costs),
        peak_rss_bytes=sum(cost["peak_rss_bytes"] for cost in costs),
    )


def rclone(job: Job) -> Taken:
    """`rclone copyurl --urls`: the whole process, including about 50 ms of startup."""
    urls = job.folder / "urls.csv"
    urls.write_text(
        "".join(f"{job.rig.origin_url}/{it.name},wallpapers/{it.name}\n" for it in job.bodies)
    )
    remote = (
        ":s3,provider=Other,access_key_id=key,secret_access_key=secret,region=us-east-1,"
        f"no_check_bucket=true,no_head=true,endpoint='{job.rig.sink_url}':{BUCKET}"
    )
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise SystemExit("rclone is not installed: make bench installs it")
    words = [program, "copyurl", "--urls", str(urls), remote, "--config", os.devnull]
    words += ["--transfers", str(job.in_flight), "--checkers", str(job.in_flight)]
    if job.rig.certificate:
        words += ["--ca-cert", str(job.rig.certificate)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, env=job.environment)
    wall_seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(used, wall_seconds)


def original(job: Job) -> Taken:
    """The synchronous original without its pause."""
    return _script(job, "original.py")


def zero_sockets(job: Job) -> Taken:
    """Bare sockets."""
    return _script(job, "floor.py", "sockets")


def zero_sha256(job: Job) -> Taken:
    """SHA-256 of the same number of bytes."""
    return _script(job, "floor.py", "sha256")


def zero_two_processes(job: Job) -> Taken:
    """Bare sockets and SHA-256: two processes with half of the bodies each, the fastest way."""
    with ThreadPoolExecutor() as threads:
        taken = list(threads.map(lambda half: _script(half, "floor.py", "both"), _halves(job)))
    return Taken(sum(it.cpu_seconds for it in taken), max(it.wall_seconds for it in taken))


def _script(job: Job, *words: str) -> Taken:
    certificate = str(job.rig.certificate) if job.rig.certificate else None
    done = subprocess.run(
        [sys.executable, str(HERE / words[0]), *words[1:]],
        input=job.order(certificate=certificate),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=job.environment,
    )
    return Taken(**json.loads(done.stdout))
