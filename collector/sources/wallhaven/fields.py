"""Types of the API's fields, as they really come, within what Postgres can store."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from collector.core.keys import is_wallhaven_id

# Longer than any text the API is known to send; keeps one hostile row from filling a disk.
TEXT_CHARACTERS = 10_000
ADDRESS_CHARACTERS = 2_000
MAX_INT4 = 2**31 - 1
# 1 TiB: no image is larger, and it stays far from the limits of BIGINT.
MAX_FILE_BYTES = 2**40
# The site gives five.
MOST_COLORS = 100


class Answer(BaseModel):
    """A part of an answer, types taken at their word; what has no field is `model_extra`."""

    model_config = ConfigDict(strict=True, extra="allow")


def _utc(text: str) -> datetime:
    # No zone is given; UTC fits what was observed (2026-09).
    try:
        return datetime.fromisoformat(f"{text}Z")
    except ValueError:  # whose text would repeat what was received
        raise ValueError("is no time such as 2026-09-23 17:27:56") from None


def _valid_id(text: str) -> str:
    if not is_wallhaven_id(text):
        raise ValueError("is not 1 to 16 letters and digits")
    return text


def _digits(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _texts(value: object) -> object:
    # Seen: lists, [""] for an empty one, and other types where an account has chosen nothing.
    found = value if isinstance(value, list) else []
    return [text for text in found if isinstance(text, str) and text]


WallhavenId = Annotated[str, AfterValidator(_valid_id)]
# Checks that stand in `Field` run compiled: an item has a dozen texts. Postgres stores no NUL.
Text = Annotated[str, Field(max_length=TEXT_CHARACTERS, pattern=r"^[^\x00]*$")]
Name = Annotated[Text, Field(min_length=1)]
Address = Annotated[str, Field(pattern=r"^https?://[^\s\x00]+$", max_length=ADDRESS_CHARACTERS)]
Pixels = Annotated[int, Field(ge=1, le=MAX_INT4)]
Count = Annotated[int, Field(ge=0, le=MAX_INT4)]
Serial = Annotated[int, Field(ge=1, le=MAX_INT4)]
FileBytes = Annotated[int, Field(ge=1, le=MAX_FILE_BYTES)]
# A number, or its digits as a string.
Number = Annotated[int, BeforeValidator(_digits), Field(ge=0, le=MAX_INT4)]
PerPage = Annotated[Number, Field(ge=1)]
# Text that a validator has turned into a time.
Time = Annotated[
    str, Field(pattern=r"^[0-9]{4}(-[0-9]{2}){2} [0-9]{2}(:[0-9]{2}){2}$"), AfterValidator(_utc)
]
Colors = Annotated[list[Text], Field(max_length=MOST_COLORS)]
Texts = Annotated[list[Text], BeforeValidator(_texts), Field(max_length=10_000)]
