"""Strict JSON, its parts as typed records, and what PostgreSQL can store of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from math import isfinite
from typing import Annotated, Any, NoReturn, TypeVar, get_args

from msgspec import Meta, Struct, ValidationError, convert, defstruct
from msgspec.json import encode
from msgspec.structs import fields

from collector.core.errors import Code, PayloadError
from collector.core.keys import is_wallhaven_id
from collector.core.wallpapers import Rejected

# Our limit, longer than any known text of the API: no hostile row can fill a disk.
_MAX_TEXT_CHARACTERS = 10_000
_MAX_ADDRESS_CHARACTERS = 2_000
_MAX_INT4 = 2**31 - 1
# 1 TiB: larger than any image, and far below the limit of BIGINT.
_MAX_FILE_BYTES = 2**40
# The site sends five.
_MAX_COLORS = 100
# A rejected item is kept for a person to read: 4,000 characters are enough.
_RAW_CHARACTERS = 4_000
# The API nests four levels. Python's recursion limit is 1,000 frames, and the garbage collector may
# run a finalizer at any depth: parsing must stay far from the limit.
MAX_NESTING = 100
# Also a string that is cut off: the scan stays linear whatever comes.
_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

# Types of the API's fields, within the limits of PostgreSQL. `_is_storable` refuses NUL: a pattern
# on each of a dozen texts would double the time for an item.
WallhavenId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{1,16}\Z")]
Text = Annotated[str, Meta(max_length=_MAX_TEXT_CHARACTERS)]
Name = Annotated[str, Meta(min_length=1, max_length=_MAX_TEXT_CHARACTERS)]
Address = Annotated[
    str, Meta(pattern=r"^https?://[^\s\x00]+\Z", max_length=_MAX_ADDRESS_CHARACTERS)
]
Time = Annotated[str, Meta(pattern=r"^[0-9]{4}(-[0-9]{2}){2} [0-9]{2}(:[0-9]{2}){2}\Z")]
Pixels = Annotated[int, Meta(ge=1, le=_MAX_INT4)]
Count = Annotated[int, Meta(ge=0, le=_MAX_INT4)]
Serial = Annotated[int, Meta(ge=1, le=_MAX_INT4)]
FileBytes = Annotated[int, Meta(ge=1, le=_MAX_FILE_BYTES)]
Colors = Annotated[list[Text], Meta(max_length=_MAX_COLORS)]

Part = TypeVar("Part", bound=Struct)


class InvalidPart(ValueError):
    """A part of an answer has another shape. The message is one line with the first wrong field.

    It never repeats what was received, which may be hostile and of any length.
    """


def read_part(shape: type[Part], given: object) -> tuple[Part, dict[str, Any]]:
    """Return a part of strict JSON as a record, and its unknown fields.

    A missing field counts as null. Unknown fields of a nested record stand under its name. Raises
    InvalidPart, also for text that PostgreSQL cannot store.
    """
    if not isinstance(given, dict):
        raise InvalidPart("item: not an object")
    known, unknown = _known_and_unknown(shape, given)
    try:
        found = convert(known, shape)
        if _is_storable(found):
            return found, unknown
    except (ValidationError, UnicodeEncodeError):
        pass
    raise InvalidPart(_problems(shape, known))


def problem_of(error: ValidationError) -> str:
    """Return the problem of a record, with the field's name first."""
    problem, _, place = str(error).partition(" - at `$.")
    return f"{place.removesuffix('`') or 'item'}: {problem}"


def utc_time(text: str) -> datetime:
    """Convert a `Time`. Raises InvalidPart."""
    # The API gives no zone; UTC fits what was observed (2026-09).
    try:
        return datetime.fromisoformat(f"{text}Z")
    except ValueError:  # its message would repeat what was received
        raise InvalidPart("created_at: not a time such as 2026-09-23 17:27:56") from None


def extra_json(unknown: Mapping[str, Any]) -> str | None:
    """Return unknown fields as JSON text that jsonb can store, None if there are none."""
    return json.dumps(_storable(unknown)) if unknown else None


def listing(body: bytes) -> tuple[list[object], object]:
    """Return the list `data` of a body, and its `meta` or None. Raises PayloadError."""
    answer = strict_json(body)
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise PayloadError("the answer is not an object with a list `data`")
    return answer["data"], answer.get("meta")


def data_object(body: bytes) -> dict[str, Any]:
    """Return the object `data` of a body. Raises PayloadError."""
    answer = strict_json(body)
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
        raise PayloadError("the answer is not an object with an object `data`")
    found: dict[str, Any] = answer["data"]
    return found


def strict_json(body: bytes) -> object:
    """Parse UTF-8 JSON. Raises PayloadError for NaN, infinities, repeated keys and deep nesting."""
    _check_nesting(body)
    try:
        return json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_unique_keys,
        )
    except ValueError as error:
        raise PayloadError(f"not strict JSON: {type(error).__name__}") from None


def _check_nesting(body: bytes) -> None:
    depth = 0
    for bracket in _STRING.sub(b"", body).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_NESTING:
            raise PayloadError(f"not strict JSON: nested more than {MAX_NESTING} levels deep")


def rejected_wallpaper(item: object, error: InvalidPart) -> Rejected:
    """Return the rejection of a wallpaper."""
    found_id = item.get("id") if isinstance(item, dict) else None
    usable_id = found_id if isinstance(found_id, str) and is_wallhaven_id(found_id) else None
    is_bad_id = isinstance(found_id, str) and bool(found_id) and usable_id is None
    code = Code.BAD_ID if is_bad_id else Code.INVALID_METADATA
    return Rejected(usable_id, code, str(error), _raw(item))


def rejected_tag(tag: object, error: InvalidPart, wallhaven_id: str) -> Rejected:
    """Return the rejection of a wallpaper's tag."""
    return Rejected(wallhaven_id, Code.INVALID_METADATA, str(error), _raw(tag))


def _known_and_unknown(
    shape: type[Struct], given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    unknown = given.copy()
    known = {name: unknown.pop(name, None) for name in shape.__struct_encode_fields__}
    try:
        "".join(unknown).encode()
    except UnicodeEncodeError:
        raise InvalidPart("item: the name of a field is not valid text") from None
    for name, part in _parts(shape).items():
        if isinstance(known[name], dict):
            known[name], more = _known_and_unknown(part, known[name])
            if more:
                unknown[name] = more
    return known, unknown


@cache
def _parts(shape: type[Struct]) -> dict[str, type[Struct]]:
    """Return the fields that are nested records, by name."""
    types = {field.encode_name: get_args(field.type)[0] for field in fields(shape)}
    return {
        name: part
        for name, part in types.items()
        if isinstance(part, type) and issubclass(part, Struct)
    }


def _problems(shape: type[Struct], known: Mapping[str, Any]) -> str:
    """Return one line: the first wrong field, and the number of others."""
    found = (_problem(known, name, alone) for name, alone in _fields(shape).items())
    first, *more = [problem for problem in found if problem]
    return f"{first} (and {len(more)} more)" if more else first


def _problem(known: Mapping[str, Any], name: str, alone: type[Struct]) -> str | None:
    try:
        found = convert({name: known[name]}, alone)
        if _is_storable(found):
            return None
    except ValidationError as error:
        return problem_of(error)
    except UnicodeEncodeError:
        pass
    return f"{name}: holds NUL or half of a surrogate pair"


@cache
def _fields(shape: type[Struct]) -> dict[str, type[Struct]]:
    """Return a record type for each single field: msgspec compiles the checks of a type once."""
    return {
        field.encode_name: defstruct(
            "Field", [("value", field.type)], rename={"value": field.encode_name}
        )
        for field in fields(shape)
    }


def _is_storable(value: object) -> bool:
    """Return whether no text in a record holds NUL or half of a surrogate pair."""
    # Encoding checks all texts at once. Escaped backslashes aside, only NUL is encoded like this.
    try:
        return rb"\u0000" not in encode(value).replace(rb"\\", b"")
    except UnicodeEncodeError:
        return False


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


def _raw(item: object) -> str:
    return json.dumps(item, ensure_ascii=True)[:_RAW_CHARACTERS]


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
