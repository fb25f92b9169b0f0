"""A scheduler's trigger form, turned into settings and options; its fields override settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from collector.core.errors import SettingsError
from collector.logs import logger, mark_lines
from collector.runtime.backfilling import BackfillOptions
from collector.runtime.opening import whole_list
from collector.settings import Settings, load_settings

NO_FORM: Mapping[str, Any] = MappingProxyType({})

# Fields of a run's form, and the settings that they override.
_SETTING_OF = {
    "query": "wallhaven_query",
    "collection": "wallhaven_collection",
    "pages": "wallhaven_max_pages",
    "limit": "upload_batch_limit",
    "in_flight": "collector_in_flight",
}
# A field that overrides no setting; callers pass it to `run_stage`.
_STAGE_FIELDS = ("only",)
# Fields of a backfill's form: the list, and which part of it.
_LIST_FIELDS = ("query", "collection")
_BACKFILL_FIELDS = ("from_page", "to_page", "limit", "again")


def settings_for(form: Mapping[str, Any] = NO_FORM) -> Settings:
    """Return the environment's settings, overridden by the form.

    Fields are `query`, `collection`, `pages`, `limit` and `in_flight`; one that is None, blank or
    missing overrides nothing. A query overrides a collection of the settings. Logs and raises
    SettingsError, also for an unknown field and for unset servers, because a scheduled run never
    starts embedded ones.
    """
    with _logged():
        return _settings(form)


def backfill_of(form: Mapping[str, Any]) -> tuple[Settings, BackfillOptions]:
    """Return the settings and the options of a backfill's form.

    Fields are `query`, `collection`, `from_page`, `to_page`, `limit` and `again`; one that is None
    or missing has its default. Raises SettingsError as `settings_for` does, and if the search of
    the settings has no order from the oldest.
    """
    filled = {name: value for name, value in form.items() if value is not None}
    with _logged():
        settings = _settings({name: filled[name] for name in _LIST_FIELDS if name in filled})
        options = _options(filled)
        whole_list(settings)
        return settings, options


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        mark_lines()
        logger.error("%s", error)
        raise


def _settings(form: Mapping[str, Any]) -> Settings:
    _require_known(form, (*_SETTING_OF, *_STAGE_FIELDS))
    settings = load_settings(**_overrides(form))
    if settings.uses_local_postgres:
        raise SettingsError(
            "DATABASE_URL",
            "must be set: scheduled runs start no embedded server",
        )
    if settings.uses_local_s3:
        raise SettingsError(
            "S3_ENDPOINT_URL",
            "must be set (empty for AWS), or AWS credentials must be",
        )
    return settings


def _overrides(form: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {
        field: value
        for field, value in form.items()
        if field in _SETTING_OF and not _is_empty(value)
    }
    if {"query", "collection"} <= chosen.keys():
        raise SettingsError("collection", "excludes query; leave one of the two fields empty")
    settings = {_SETTING_OF[field]: value for field, value in chosen.items()}
    return settings | {"wallhaven_collection": ""} if "query" in chosen else settings


def _options(filled: Mapping[str, Any]) -> BackfillOptions:
    _require_known(filled, (*_LIST_FIELDS, *_BACKFILL_FIELDS))
    options = BackfillOptions(**{name: filled[name] for name in _BACKFILL_FIELDS if name in filled})
    if options.to_page is not None and options.to_page < options.from_page:
        raise SettingsError("to_page", f"must not be below from_page, {options.from_page}")
    return options


def _require_known(form: Mapping[str, Any], fields: Sequence[str]) -> None:
    for field in form:
        if field not in fields:
            raise SettingsError(field, f"the form has no such field; it has {', '.join(fields)}")


def _is_empty(value: object) -> bool:
    # A field that was filled in and cleared again is an empty string.
    return value is None or (isinstance(value, str) and not value.strip())
