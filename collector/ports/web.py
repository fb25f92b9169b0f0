"""The outside: API answers whole and bounded, images as streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from collector.core.parts import Chunk


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer; header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Body(Protocol):
    """An HTTP answer whose body has not been read yet."""

    @property
    def status(self) -> int:
        """HTTP status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields, names case-insensitive."""

    def chunks(self) -> AsyncIterator[Chunk]:
        """Yield the body as it arrives; raises ItemError(transient) when it breaks off.

        Small pieces come together, until the first one after a second: a body has few chunks,
        however it was cut on its way, so what they cost beside their bytes does not count.
        """


class Http(Protocol):
    """The outside: API answers whole and bounded, images as streams."""

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """GET a small answer; follows no redirect.

        Raises PayloadError when it is too large, Outage when refused.
        """

    def open(self, url: str, *, most_bytes: int | None = None) -> AbstractAsyncContextManager[Body]:
        """GET an image; leaving the context drops what was not read.

        There is room for `most_bytes`: of more, nothing is taken in before it is asked for.

        A few redirects are followed, to listed hosts only. Raises ItemError: permanent where
        one leads elsewhere, transient, or systemic where nobody answers.
        """
