"""Bodies to transfer: structurally complete images of given sizes, made from a seed.

As on the site, two in three are JPEG, whose entropy-coded data has an 0xFF every few hundred bytes;
the others are PNG. The data is random, so nothing on the way can compress it.
"""

from __future__ import annotations

import math
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 1920, 1080
# Sizes are lognormal with a mean of 1.8 MB: half are below 1.3 MB, one in a hundred is above 8 MB.
MEAN_BYTES, SIGMA = 1_800_000, 0.8
MIN_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class Body:
    """One image: its id, its type, its exact size."""

    wallhaven_id: str
    extension: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The name of its file at the origin, and the end of its key."""
        return f"{self.wallhaven_id}.{self.extension}"

    @property
    def file_type(self) -> str:
        """The MIME type, as in the API."""
        return "image/jpeg" if self.extension == "jpg" else "image/png"


def lognormal(images: int, seed: int, max_bytes: int = 17_000_000) -> list[int]:
    """Return the sizes of this many images, each at most `max_bytes`."""
    draws = random.Random(seed)  # noqa: S311 - work, not a secret
    mu = math.log(MEAN_BYTES) - SIGMA**2 / 2
    drawn = (int(draws.lognormvariate(mu, SIGMA)) for _ in range(images))
    return [min(max(size, MIN_BYTES), max_bytes) for size in drawn]


def bodies(sizes: list[int]) -> list[Body]:
    """Return bodies of these sizes; every third is a PNG."""
    return [
        Body(f"b{number:07}", "png" if number % 3 == 2 else "jpg", size)
        for number, size in enumerate(sizes)
    ]


def write_all(found: list[Body], folder: Path, seed: int) -> None:
    """Write the bodies as files."""
    folder.mkdir(parents=True)
    draws = random.Random(seed)  # noqa: S311
    for body in found:
        with (folder / body.name).open("wb") as file:
            file.writelines(image(body, draws))


def image(body: Body, draws: random.Random) -> Iterator[bytes]:
    """Yield the bytes of a body, piece by piece."""
    head, tail = _PARTS[body.extension](body.size_bytes)
    yield head
    left = body.size_bytes - len(head) - len(tail)
    while left:
        data = draws.randbytes(min(left, 2**20))
        if body.extension == "jpg":
            # In data, 0xFF is followed by a zero; otherwise it would begin a marker.
            data = data.replace(b"\xff", b"\xff\x00")[: min(left, 2**20)]
            if data[-1] == 0xFF:
                data = data[:-1] + b"\x00"
        yield data
        left -= len(data)
    yield tail


def _jpeg(_: int) -> tuple[bytes, bytes]:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, HEIGHT, WIDTH, 3) + bytes(9)
    scan = b"\xff\xda" + struct.pack(">HB", 12, 3) + bytes(9)
    return b"\xff\xd8" + frame + scan, b"\xff\xd9"


def _png(size_bytes: int) -> tuple[bytes, bytes]:
    header = b"IHDR" + struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    start += struct.pack(">I", zlib.crc32(header))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    # The data chunk: length, name, data, and a CRC that no contender checks.
    data_bytes = size_bytes - len(start) - len(end) - 12
    return start + struct.pack(">I", data_bytes) + b"IDAT", bytes(4) + end


_PARTS = {"jpg": _jpeg, "png": _png}
