"""The head of an answer, read strictly: anything unusual is nobody's guess, but None. Pure.

Syntax: RFC 9112, https://www.rfc-editor.org/rfc/rfc9112 (June 2022), sections 4, 5 and 6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from multidict import CIMultiDict

# A usual head has half a kilobyte.
MOST_HEAD_BYTES = 16 * 1024
HEAD_END = b"\r\n\r\n"

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*+((?:[\x21-\x7e\x80-\xff]"
    rb"(?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[\t ]*\r\n"
)
_LENGTH = re.compile(r"[0-9]{1,18}")


class Head(NamedTuple):
    """Status, fields, and the length of the body, None where the head does not say it plainly."""

    status: int
    headers: Mapping[str, str]
    length_bytes: int | None
    keeps_alive: bool


def read_head(block: bytes) -> Head | None:
    """Read a head that ends with its empty line; None where it is not of the strict form."""
    line = _STATUS_LINE.match(block)
    if line is None:
        return None
    headers: CIMultiDict[str] = CIMultiDict()
    position = line.end()
    while position < len(block) - 2:
        field = _FIELD.match(block, position)
        if field is None:
            return None
        headers.add(field[1].decode("ascii"), field[2].decode("latin-1"))
        position = field.end()
    if block[position:] != b"\r\n":
        return None
    return Head(int(line[1]), headers, _length(headers), _keeps_alive(headers))


def _length(headers: CIMultiDict[str]) -> int | None:
    found = headers.getall("Content-Length", [])
    if len(found) != 1 or "Transfer-Encoding" in headers or not _LENGTH.fullmatch(found[0]):
        return None
    return int(found[0])


def _keeps_alive(headers: CIMultiDict[str]) -> bool:
    return "close" not in headers.get("Connection", "").lower()
