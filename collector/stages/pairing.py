"""Walk a bucket's listing and the table side by side, in the order of their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from collector.core.errors import Edge, Refusal
from collector.core.verification import KeyedRow, ListedObject

T = TypeVar("T")

Pair = tuple[ListedObject | None, KeyedRow | None]


async def paired(
    objects: AsyncIterator[ListedObject], rows: AsyncIterator[KeyedRow]
) -> AsyncIterator[Pair]:
    """Yield each object with the row that names it, and what is left on either side with None.

    Both sides come in the byte order of their keys, which is the order of Python's strings, too;
    two items are held, however many there are. Raises Refusal where the bucket lists its keys in
    another order: then nothing that it does not list could be said to be missing.
    """
    found, row = await _next_object(objects, None), await anext(rows, None)
    while found is not None or row is not None:
        if row is None or (found is not None and found.key < row.s3_key):
            yield found, None
            found = await _next_object(objects, found)
        elif found is None or row.s3_key < found.key:
            yield None, row
            row = await anext(rows, None)
        else:
            yield found, row
            found, row = await _next_object(objects, found), await anext(rows, None)


async def _next_object(
    objects: AsyncIterator[ListedObject], last: ListedObject | None
) -> ListedObject | None:
    found = await anext(objects, None)
    if found is not None and last is not None and found.key <= last.key:
        raise Refusal(
            Edge.UPLOAD,
            f"the store lists {found.key!r:.100} behind {last.key!r:.100}: without the order of S3"
            " it cannot be compared",
        )
    return found
