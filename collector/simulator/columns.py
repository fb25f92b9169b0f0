"""The traits of a whole catalogue, by column: what search filters and sorts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

from collector.simulator.population import Traits


class Columns(NamedTuple):
    """One array for each field of Traits, in its order; about 30 bytes an item."""

    category: array[int]
    purity: array[int]
    shape: array[int]
    artwork: array[int]
    tags: array[int]
    uploader: array[int]
    views: array[int]
    favorites: array[int]


def columns_of(items: Iterable[Traits]) -> Columns:
    """Return the traits of all items, column by column."""
    columns = Columns(
        category=array("B"),
        purity=array("B"),
        shape=array("I"),
        artwork=array("B"),
        tags=array("I"),
        uploader=array("B"),
        views=array("Q"),
        favorites=array("Q"),
    )
    for traits in items:
        for column, value in zip(columns, traits, strict=True):
            column.append(value)
    return columns
