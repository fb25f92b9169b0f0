"""Two sorted sides, walked at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.errors import Refusal
from collector.core.maintenance import KeyedRow, ListedObject
from collector.stages.verify import Pair, paired

T = TypeVar("T")

KEYS = st.lists(st.text(max_size=3), unique=True)


async def each(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def walk(objects: Iterable[str], rows: Iterable[str]) -> list[Pair]:
    listed = each(ListedObject(key, 1) for key in objects)
    keyed = each(KeyedRow(1, "a", key, None, None) for key in rows)
    return [pair async for pair in paired(listed, keyed)]


@given(KEYS, KEYS)
async def test_every_key_of_either_side_comes_once(objects: list[str], rows: list[str]) -> None:
    pairs = await walk(sorted(objects), sorted(rows))
    assert [found.key for found, _ in pairs if found] == sorted(objects)
    assert [row.s3_key for _, row in pairs if row] == sorted(rows)
    both = {found.key for found, row in pairs if found and row and found.key == row.s3_key}
    assert both == set(objects) & set(rows)
    assert len(pairs) == len(set(objects) | set(rows))


def test_python_and_s3_agree_about_the_order_of_keys() -> None:
    keys = ["a", "a.jpg", "a/b", "Z", "\u00e9", "\uffee", "\U0001f600"]
    assert sorted(keys) == sorted(keys, key=lambda key: key.encode())


async def test_rows_that_share_a_key_come_one_by_one() -> None:
    pairs = await walk(["a"], ["a", "a"])
    assert [(found is None, row is None) for found, row in pairs] == [(False, False), (True, False)]


@pytest.mark.parametrize("objects", [["b", "a"], ["a", "a"]])
async def test_a_listing_out_of_order_is_refused(objects: list[str]) -> None:
    with pytest.raises(Refusal, match="without the order of S3"):
        await walk(objects, [])
