"""The meat grinder: thousands of images, a third of all answers faulty, and kills all the time.

    python tests/soak.py [--minutes 2] [--seed N] [--wallpapers 2000]

Several workers, each killed every few seconds, and the janitor share one backlog, while API, image
host, store and database misbehave. Then the faults end: all must converge, and the oracle agree.
The last line is JSON: what was tried and what came of it, with the seed. The seed decides which
faults come and when processes die; the machine decides the rest. Exit status 1: something did not
hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anyio import create_task_group, sleep
from faulty_world import FaultyWorld, open_faulty_world
from homes import passable_home
from peers import http
from peers.exchange import Exchange
from peers.http import Fault, HttpPeer
from peers.postgres import Cut
from PIL import Image
from processes import collector, started

from collector.local import open_local_servers
from collector.simulator import SimulatorOptions

WORKERS = 3
FAULTY_SHARE = 1 / 3
# Between two deaths of a worker; a start takes one of them.
SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS = 2.0, 6.0
JANITOR_PAUSE_SECONDS = 5.0
# The database loses an answer, or a connection, so often.
DATABASE_PAUSE_SECONDS = 10.0
SMALL_PICTURES, LARGE_PICTURE_PIXELS = 199, 2000
# Rounds in which all that was given up is tried again, where nothing misbehaves any more.
MAX_ROUNDS = 5
# A live claim notes its upload within milliseconds.
UPLOAD_AGE_SECONDS = "30"
SETTINGS = {
    "collector_lease_seconds": 3,
    "collector_in_flight": 8,
    "upload_batch_limit": 0,
    "wallhaven_max_pages": 200,
}
S3_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>no</Message></Error>"


@dataclass
class Tally:
    """What was done to the world."""

    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    starts: int = 0
    ends: Counter[int] = field(default_factory=Counter)


class Mixer:
    """Draws faults, each with its name; the same seed draws the same ones in the same order."""

    def __init__(self, chance: random.Random, tally: Tally, faults: Mapping[str, Fault]) -> None:
        self._chance = chance
        self._tally = tally
        self._faults = list(faults.items())

    def break_some(self, peer: HttpPeer) -> None:
        """Let a share of the peer's answers be faulty from now on."""
        peer.on(lambda _: self._chance.random() < FAULTY_SHARE, self._one, times=None)

    async def _one(self, exchange: Exchange) -> None:
        name, fault = self._chance.choice(self._faults)
        self._tally.faults[name] += 1
        await fault(exchange)


API_FAULTS: dict[str, Fault] = {
    "api 500": http.status(500),
    "api reset": http.reset,
    "api cut": http.cut(100),
    "api page": http.status(200, b"<html>soon</html>", content_type="text/html"),
    "api 429": http.status(429, retry_after="0"),
}
IMAGE_FAULTS: dict[str, Fault] = {
    "image 500": http.status(500),
    "image 503": http.status(503, retry_after="0"),
    "image 404": http.status(404),
    "image reset": http.reset,
    "image cut": http.cut(50),
    "image cut at its end": http.cut(1, from_end=True, then="close"),
    "image page": http.status(200, b"<html>soon</html>", content_type="text/html"),
    "image empty": http.status(200, content_type="image/jpeg"),
    "image zeros": http.status(200, bytes(2000), content_type="image/jpeg"),
}
STORE_FAULTS: dict[str, Fault] = {
    "store 500": http.status(500, S3_ERROR % b"InternalError"),
    "store 503": http.status(503, S3_ERROR % b"SlowDown"),
    "store reset": http.reset,
    "store reply lost": http.lose_reply,
    "store 409": http.status(409, S3_ERROR % b"ConditionalRequestConflict"),
}
DATABASE_FAULTS = (Cut.BEFORE, Cut.AFTER)
DATABASE_STATEMENTS = (
    "-- The object of a claim",
    "-- An attempt of a claim",
    "COMMIT;",
    "-- Run $1 cl",
)


async def soak(minutes: float, seed: int, wallpapers: int) -> dict[str, Any]:
    """Break the world for so long, heal it, and return what came of it."""
    began = time.monotonic()
    with TemporaryDirectory() as folder, passable_home(in_memory=False) as home:
        _draw(Path(folder))
        async with open_local_servers(home) as servers:
            assert servers.postgres is not None
            assert servers.s3 is not None
            options = SimulatorOptions(
                wallpapers=wallpapers, images=Path(folder), requests_per_minute=0, seed=seed
            )
            opening = open_faulty_world(
                await _database(servers.postgres.dsn), servers.s3, "soak", options, **SETTINGS
            )
            async with opening as world:
                # What is listed first is what all of them fight about.
                await collector(world.settings, "run", "--run-id", "before", "--limit", "1")
                tally = await _broken(world, minutes, seed)
                rounds = await _healed(world)
                problem = await _judged(world)
                stored = await world.value(
                    "SELECT count(*) FROM draenei_content.wallpapers WHERE s3_key IS NOT NULL"
                )
                twice = [key for key, n in Counter(world.store.commits).items() if n > 1]
    return {
        "seed": seed,
        "items": wallpapers,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "workers": WORKERS,
        "faults": tally.faults.total(),
        "faults_by_kind": dict(sorted(tally.faults.items())),
        "kills": tally.kills,
        "starts": tally.starts,
        "ends_by_status": dict(sorted(tally.ends.items())),
        "rounds": rounds,
        "lost": wallpapers - stored,
        "written_twice": len(twice),
        "problem": problem,
    }


def _draw(folder: Path) -> None:
    for number in range(SMALL_PICTURES):
        picture = Image.new("RGB", (40 + number % 7, 30), (number, 90, 160))
        picture.save(folder / f"{number:03}.{'png' if number % 2 else 'jpg'}")
    side = LARGE_PICTURE_PIXELS
    noise = Image.effect_noise((side, side), 90).convert("RGB")
    noise.save(folder / "noise.png", compress_level=0)


async def _database(dsn: str) -> str:
    from databases import TEMPLATE, make_template, with_name

    await make_template(dsn)
    return with_name(dsn, TEMPLATE)


async def _broken(world: FaultyWorld, minutes: float, seed: int) -> Tally:
    tally, chance = Tally(), random.Random(seed)
    Mixer(chance, tally, API_FAULTS).break_some(world.api)
    Mixer(chance, tally, IMAGE_FAULTS).break_some(world.images)
    Mixer(chance, tally, STORE_FAULTS).break_some(world.store)
    async with create_task_group() as tasks:
        for number in range(WORKERS):
            tasks.start_soon(_worker, world, number, random.Random(f"{seed}-{number}"), tally)
        tasks.start_soon(_janitor, world)
        tasks.start_soon(_database_trouble, world, chance, tally)
        await sleep(60 * minutes)
        tasks.cancel_scope.cancel()
    return tally


async def _worker(world: FaultyWorld, number: int, chance: random.Random, tally: Tally) -> None:
    stage = ("run",) if number == 0 else ("transfer", "--worker", str(number))
    while True:
        run_id = f"soak-{number}-{tally.starts}"
        async with started(world.settings, *stage, "--run-id", run_id) as running:
            tally.starts += 1
            history = chance.uniform(SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS)
            try:
                tally.ends[await asyncio.wait_for(running.process.wait(), history)] += 1
            except TimeoutError:
                running.process.kill()
                tally.kills += 1


async def _janitor(world: FaultyWorld) -> None:
    while True:
        await sleep(JANITOR_PAUSE_SECONDS)
        await collector(world.settings, "janitor", "--upload-age", UPLOAD_AGE_SECONDS)


async def _database_trouble(world: FaultyWorld, chance: random.Random, tally: Tally) -> None:
    while True:
        await sleep(DATABASE_PAUSE_SECONDS)
        cut = chance.choice(DATABASE_FAULTS)
        tally.faults[f"database {cut.name.lower()}"] += 1
        world.database.on(chance.choice(DATABASE_STATEMENTS), cut)


async def _healed(world: FaultyWorld) -> int:
    """Let everything work, and go on until nothing is left; return how many rounds that took."""
    world.heal()
    await sleep(SETTINGS["collector_lease_seconds"] + 1)
    for number in range(1, MAX_ROUNDS + 1):
        await collector(world.settings, "janitor", "--upload-age", "0", "--run-silence", "0")
        await collector(world.settings, "dead", "requeue", "--all")
        ended = await collector(
            world.settings, "run", "--refresh", "--run-id", f"healed-{number}", "--json"
        )
        if ended.status == 0 and json.loads(ended.stdout)["status"] == "succeeded":
            return number
        sys.stderr.write(ended.stderr[-2000:])
    return MAX_ROUNDS


async def _judged(world: FaultyWorld) -> str | None:
    await collector(world.settings, "janitor", "--upload-age", "0", "--run-silence", "0")
    try:
        await world.check()
    except AssertionError as error:
        return str(error)
    return None


def main() -> int:
    """Soak as the arguments say, print what came of it, and exit with 1 where it did not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--wallpapers", type=int, default=2000)
    given = parser.parse_args()
    sys.stderr.write(f"soak: seed {given.seed}\n")
    said = asyncio.run(soak(given.minutes, given.seed, given.wallpapers))
    sys.stdout.write(json.dumps(said) + "\n")
    return 1 if said["problem"] or said["lost"] or said["written_twice"] else 0


if __name__ == "__main__":
    sys.exit(main())
