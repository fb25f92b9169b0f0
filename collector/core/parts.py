"""Cut a stream of chunks into parts of a fixed size, without joining or copying them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

# 8 MiB: above S3's minimum of 5 MiB, 10,000 parts reach 80 GiB, and two of them in memory are
# small. It is fixed so that composite checksums compare between runs.
PART_BYTES = 8 * 1024 * 1024

Chunk = bytes | memoryview


@dataclass(slots=True)
class Part:
    """Consecutive chunks of a body as they arrived, at most PART_BYTES together."""

    number: int
    chunks: list[Chunk] = field(default_factory=list)
    size_bytes: int = 0


class PartCutter:
    """Collect chunks: `feed()` yields each full part once, `rest()` returns what is left.

    Every part but the last has exactly `part_bytes`. A memoryview splits a chunk that crosses a
    border, so no byte is copied.
    """

    def __init__(self, part_bytes: int = PART_BYTES) -> None:
        if part_bytes < 1:
            raise ValueError(f"part_bytes must be at least 1, not {part_bytes}")
        self._part_bytes = part_bytes
        self._part = Part(number=1)

    def feed(self, chunk: Chunk) -> Iterator[Part]:
        """Take a chunk and yield each part that is now known to be full AND not the last.

        A full part is kept until another byte arrives: only then is it certain that the body needs
        more than one part.
        """
        view = memoryview(chunk)
        while view:
            if self.is_full:
                full, self._part = self._part, Part(self._part.number + 1)
                yield full
            taken = view[: self._part_bytes - self._part.size_bytes]
            self._part.chunks.append(chunk if len(taken) == len(chunk) else taken)
            self._part.size_bytes += len(taken)
            view = view[len(taken) :]

    @property
    def is_full(self) -> bool:
        """Whether the next byte will start another part."""
        return self._part.size_bytes == self._part_bytes

    def rest(self) -> Part:
        """Return the last part (possibly the only one, possibly empty)."""
        return self._part
