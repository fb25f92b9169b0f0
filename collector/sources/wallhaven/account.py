"""What the API says of an account: its settings, and collections of users."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from collector.core.errors import PayloadError
from collector.core.wallpapers import AccountSettings, Collection, Rejected
from collector.sources.wallhaven.fields import Answer, Count, PerPage, Serial, Text, Texts
from collector.sources.wallhaven.payload import (
    bounded_nesting,
    data_object,
    extra_json,
    first_problem,
    listing,
    rejected_part,
)


def _truth(value: object) -> object:
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def _flag(value: object) -> object:
    return int(value) if isinstance(value, bool) or value in ("0", "1") else value


class _Collection(Answer):
    id: Serial
    label: Text
    views: Count | None = None
    public: Annotated[bool, BeforeValidator(_truth)] | None = None
    count: Count | None = None


class _Settings(Answer):
    per_page: PerPage
    thumb_size: Text | None = None
    purity: Texts = Field(default_factory=list)
    categories: Texts = Field(default_factory=list)
    resolutions: Texts = Field(default_factory=list)
    aspect_ratios: Texts = Field(default_factory=list)
    toplist_range: Text | None = None
    tag_blacklist: Texts = Field(default_factory=list)
    user_blacklist: Texts = Field(default_factory=list)
    ai_art_filter: Annotated[int, BeforeValidator(_flag), Field(ge=0, le=1)] | None = None


def parse_account_settings(body: bytes) -> AccountSettings:
    """Read the answer of `/settings`; raises PayloadError for anything but its shape."""
    data = data_object(body)
    with bounded_nesting():
        try:
            found = _Settings.model_validate(data)
        except ValidationError as error:
            raise PayloadError(f"settings: {first_problem(error)}") from None
        return AccountSettings(
            per_page=found.per_page,
            thumb_size=found.thumb_size,
            purity=tuple(found.purity),
            categories=tuple(found.categories),
            resolutions=tuple(found.resolutions),
            aspect_ratios=tuple(found.aspect_ratios),
            toplist_range=found.toplist_range,
            tag_blacklist=tuple(found.tag_blacklist),
            user_blacklist=tuple(found.user_blacklist),
            ai_art_filter=found.ai_art_filter,
            extra=extra_json(found.model_extra),
        )


def parse_collections(body: bytes) -> tuple[Collection | Rejected, ...]:
    """Read the answer of `/collections` or `/collections/{user}`, in its order.

    Raises PayloadError for an answer of another shape.
    """
    found, _ = listing(body)
    with bounded_nesting():
        return tuple(_collection(item) for item in found)


def _collection(item: Any) -> Collection | Rejected:
    try:
        found = _Collection.model_validate(item)
    except ValidationError as error:
        return rejected_part(item, error)
    return Collection(
        found.id, found.label, found.views, found.public, found.count, extra_json(found.model_extra)
    )
