"""What a scheduler's form becomes."""

from __future__ import annotations

import pytest

from collector.core.errors import SettingsError
from collector.runtime.backfilling import BackfillOptions
from collector.runtime.forms import backfill_of, settings_for
from collector.sources.wallhaven import Query

EMPTY_FORM = {
    "query": None,
    "collection": None,
    "pages": None,
    "limit": None,
    "in_flight": None,
    "only": False,
}


@pytest.fixture(autouse=True)
def _servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@db/name")
    monkeypatch.setenv("S3_ENDPOINT_URL", "")


def test_an_empty_form_leaves_the_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLHAVEN_MAX_PAGES", "7")
    settings = settings_for(EMPTY_FORM)
    assert (settings.wallhaven_query, settings.wallhaven_max_pages) == ("draenei", 7)
    assert settings == settings_for({})


@pytest.mark.parametrize("emptied", ["", "  "])
def test_a_field_that_was_emptied_again_stands_for_the_setting(
    monkeypatch: pytest.MonkeyPatch, emptied: str
) -> None:
    monkeypatch.setenv("WALLHAVEN_QUERY", "elf")
    monkeypatch.setenv("WALLHAVEN_COLLECTION", "someone/15")
    settings = settings_for({"query": emptied, "collection": emptied})
    assert settings == settings_for(EMPTY_FORM)
    assert settings.question == ("someone", 15)


def test_the_form_wins_over_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLHAVEN_MAX_PAGES", "7")
    settings = settings_for({"query": "elf", "pages": 2, "limit": 0, "in_flight": 3, "only": True})
    assert settings.wallhaven_query == "elf"
    assert settings.wallhaven_max_pages == 2
    assert settings.upload_batch_limit == 0
    assert settings.collector_in_flight == 3


def test_a_star_asks_for_everything() -> None:
    question = settings_for({"query": "*"}).question
    assert isinstance(question, Query)
    assert question.parameters() == Query().parameters()


def test_a_query_counts_even_where_the_settings_name_a_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WALLHAVEN_COLLECTION", "someone/15")
    assert settings_for({"query": "elf"}).question == Query(q="elf")


def test_a_collection_takes_the_place_of_the_query() -> None:
    assert settings_for({"collection": "someone/15"}).question == ("someone", 15)
    with pytest.raises(SettingsError, match="collection: excludes query"):
        settings_for({"query": "elf", "collection": "someone/15"})
    with pytest.raises(SettingsError, match="WALLHAVEN_COLLECTION: must be USER/ID"):
        settings_for({"collection": "someone"})


def test_a_wrong_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="WALLHAVEN_MAX_PAGES"):
        settings_for({"pages": 0})


def test_a_field_that_the_form_lacks_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="max_pages: the form has no such field; it has query"):
        settings_for({"max_pages": 5})


def test_what_is_wrong_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingsError):
        settings_for({"limit": -1})
    (line,) = caplog.messages
    assert line.startswith("[draenei] UPLOAD_BATCH_LIMIT: ")


@pytest.mark.parametrize("missing", ["DATABASE_URL", "S3_ENDPOINT_URL"])
def test_no_embedded_server_is_started(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(SettingsError, match=missing):
        settings_for(EMPTY_FORM)


def test_an_empty_form_of_a_backfill_asks_for_the_whole_list() -> None:
    fields = ("query", "collection", "from_page", "to_page", "limit", "again")
    settings, options = backfill_of(dict.fromkeys(fields))
    assert (settings.wallhaven_query, options) == ("draenei", BackfillOptions())


def test_the_form_of_a_backfill_names_a_list_and_what_of_it() -> None:
    form = {"query": "elf", "from_page": 2, "to_page": 9, "limit": 5, "again": True}
    settings, options = backfill_of(form)
    assert settings.wallhaven_query == "elf"
    assert settings.upload_batch_limit == 500, "the limit is the backfill's own"
    assert options == BackfillOptions(from_page=2, to_page=9, limit=5, again=True)
