"""Pages of a search or of a collection."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from collector.core.errors import PayloadError
from collector.core.wallpapers import Page, Rejected, Wallpaper, field_names
from collector.sources.wallhaven.fields import Answer, Number, PerPage
from collector.sources.wallhaven.items import parse_item
from collector.sources.wallhaven.payload import (
    bounded_nesting,
    extra_json,
    first_problem,
    listing,
    strict_json,
)
from collector.sources.wallhaven.query import SEED
from collector.sources.wallhaven.usual import read_usual_listing

# Ours: no question that a site repeats is longer.
_ECHO_CHARACTERS = 1_000
# No page number has more; a longer one is as wrong when it is cut.
_MOST_DIGITS = 20


class _Meta(Answer):
    last_page: Number
    total: Number
    per_page: PerPage = 24
    # Read as far as they have a known shape: nothing is refused for their sake.
    current_page: Any = None
    query: Any = None
    seed: Any = None


def parse_page(body: bytes, number: int) -> Page:
    """Read the answer for page `number` of a listing; every item is a row or a rejection.

    Raises PayloadError for an answer that is not of this shape.
    """
    usual = read_usual_listing(body)
    if usual is None:
        return parse_any_page(body, number)
    return _page(number, usual.wallpapers, strict_json(usual.meta))


def parse_any_page(body: bytes, number: int) -> Page:
    """Do what `parse_page` does, field by field."""
    found, meta = listing(body)
    with bounded_nesting():
        return _page(number, tuple(parse_item(item) for item in found), meta)


def _page(number: int, items: tuple[Wallpaper | Rejected, ...], given_meta: object) -> Page:
    with bounded_nesting():
        meta = _meta(given_meta)
        return Page(
            number,
            items,
            last_page=meta.last_page,
            total=meta.total,
            per_page=meta.per_page,
            current_page=_page_number(meta.current_page),
            echo=_echo(meta.query),
            seed=_seed(meta.seed),
            unknown_meta=field_names(extra_json(meta.model_extra)),
        )


def _meta(meta: object) -> _Meta:
    try:
        return _Meta.model_validate(meta)
    except ValidationError as error:
        raise PayloadError(f"meta: {first_problem(error)}") from None


def _page_number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:_MOST_DIGITS])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _echo(query: object) -> str | None:
    # null: nothing was asked. An object names the tag that `id:` asked for.
    if query is None:
        return None
    if isinstance(query, dict) and isinstance(query.get("id"), int):
        return f"id:{query['id']}"
    return query[:_ECHO_CHARACTERS] if isinstance(query, str) else ""


def _seed(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(SEED, value) else None
