"""Bodies as strict JSON, and what of them a database can keep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any, NoReturn

from pydantic import ValidationError

from collector.core.errors import Code, PayloadError
from collector.core.keys import is_wallhaven_id
from collector.core.wallpapers import Rejected

# A rejected item is kept for a person to read: the first 4,000 characters tell enough.
_RAW_CHARACTERS = 4_000


def listing(body: bytes) -> tuple[list[object], object]:
    """Return the list `data` of a body, and its `meta` if it has one; raises PayloadError."""
    answer = strict_json(body)
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise PayloadError("the answer is not an object with a list `data`")
    return answer["data"], answer.get("meta")


def data_object(body: bytes) -> dict[str, object]:
    """Return the object `data` of a body; raises PayloadError."""
    answer = strict_json(body)
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
        raise PayloadError("the answer is not an object with an object `data`")
    found: dict[str, object] = answer["data"]
    return found


def strict_json(body: bytes) -> object:
    """Read UTF-8 JSON without NaN, infinities and repeated keys; raises PayloadError."""
    try:
        return json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_unique_keys,
        )
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"not strict JSON: {type(error).__name__}") from None


@contextmanager
def bounded_nesting() -> Iterator[None]:
    """Raise PayloadError where what is nested too deeply breaks the reading of it."""
    try:
        yield
    except RecursionError:
        raise PayloadError("an item is nested too deeply") from None


def rejected_wallpaper(item: object, error: ValidationError) -> Rejected:
    """Return why a wallpaper cannot become a row."""
    fields = item if isinstance(item, dict) else {}
    found_id = fields.get("id")
    usable_id = found_id if isinstance(found_id, str) and is_wallhaven_id(found_id) else None
    bad_id = isinstance(found_id, str) and bool(found_id) and usable_id is None
    code = Code.BAD_ID if bad_id else Code.INVALID_METADATA
    return Rejected(usable_id, code, first_problem(error), _raw(item))


def rejected_part(
    part: object, error: ValidationError, *, wallhaven_id: str | None = None
) -> Rejected:
    """Return why a tag or a collection cannot become a row; the id is of the tag's wallpaper."""
    return Rejected(wallhaven_id, Code.INVALID_METADATA, first_problem(error), _raw(part))


def first_problem(error: ValidationError) -> str:
    """Return one line: the first wrong field, and how many more there are."""
    # Never the input itself: it may be hostile and of any length; `raw` keeps it bounded.
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    name = ".".join(str(step) for step in problems[0]["loc"]) or "item"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{name}: {problems[0]['msg']}{more}"


def extra_json(fields: Mapping[str, Any] | None, **parts: Mapping[str, Any] | None) -> str | None:
    """Return fields that no record has as JSON text that jsonb holds, None where there are none.

    Those of a part of the item stand under its name.
    """
    found = {**(fields or {}), **{name: part for name, part in parts.items() if part}}
    return json.dumps(_storable(found)) if found else None


def _raw(item: object) -> str:
    return json.dumps(item, ensure_ascii=True)[:_RAW_CHARACTERS]


def _storable(value: object) -> object:
    # jsonb holds neither NUL nor lone surrogates.
    if isinstance(value, str):
        text = value.replace("\x00", "\ufffd")
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(member) for key, member in value.items()}
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _refuse(text)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found
