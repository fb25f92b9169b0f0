"""The state of an item, from its rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from collector.core.history import DeadLetter, History, ItemRow, ItemState

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def row(**values: Any) -> ItemRow:
    nothing: dict[str, Any] = dict.fromkeys(ItemRow.__slots__)
    return ItemRow(**{**nothing, "id": 1, "wallhaven_id": "a", "created_at": NOW, **values})


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"s3_key": "wallpapers/a.jpg"}, ItemState.STORED),
        ({}, ItemState.PENDING),
        ({"transfer_state": "pending", "is_waiting": False}, ItemState.PENDING),
        ({"transfer_state": "pending", "is_waiting": True}, ItemState.WAITING),
        ({"transfer_state": "claimed", "has_lapsed": False}, ItemState.CLAIMED),
        ({"transfer_state": "claimed", "has_lapsed": True}, ItemState.PENDING),
        ({"transfer_state": "dead"}, ItemState.DEAD),
    ],
)
def test_the_state_of_a_row(values: dict[str, Any], state: ItemState) -> None:
    assert row(**values).state is state


def test_an_item_that_was_only_ever_rejected() -> None:
    letter = DeadLetter(1, "load", "a", "invalid_metadata", "why", 1, NOW, NOW, "run", None)
    history = History("a", None, [], [], [letter], None)
    assert (history.is_known, history.state) == (True, ItemState.REJECTED)
    assert history.as_json()["events"] == [
        {"at": NOW.isoformat(), "what": "given up at load: invalid_metadata"}
    ]
