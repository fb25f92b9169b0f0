"""What a format's walk and the scanner say to each other."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from collector.core.images.facts import ImageType


class Read(NamedTuple):
    """Asks to pass `skip` bytes and then for the next `size`; size 0 only passes.

    The scanner holds up to `size` bytes for it, so walks read headers and skip bodies.
    """

    size: int
    skip: int = 0


class MalformedImageError(Exception):
    """A rule of the format is broken: this image can no longer become complete."""


@dataclass(slots=True)
class Findings:
    """What a walk has established so far; width and height in pixels."""

    type: ImageType | None = None
    width: int | None = None
    height: int | None = None


# A pattern matches one or two bytes; it is answered with the next bytes that it matches.
Request: TypeAlias = Read | re.Pattern[bytes]

# A part of a walk that gives its caller a result.
_Result = TypeVar("_Result")
Step: TypeAlias = Generator[Request, bytes, _Result]

# Returns at the format's end and raises MalformedImageError where there can be none. Each round of
# a walk must ask for at least one byte: that is what keeps every scan linear.
Walk: TypeAlias = Step[None]
