"""What doctor makes of an API that answers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collector.core.errors import PayloadError
from collector.doctor import _api
from collector.ports import Reply
from collector.runtime.opening import Runtime
from collector.settings import load_settings

META = {"current_page": 1, "last_page": 1, "per_page": 24, "total": 1, "query": "draenei"}


def runtime_that_lists(*items: Any) -> Runtime:
    body = json.dumps({"data": items, "meta": META}).encode()

    async def get(*_: Any) -> Reply:
        return Reply(200, {}, body)

    http = SimpleNamespace(get=get)
    return cast("Runtime", SimpleNamespace(settings=load_settings(None), http=http))


async def test_an_api_that_lists_nothing_answers() -> None:
    assert (await _api(runtime_that_lists())).startswith("answers")


async def test_a_page_of_which_nothing_can_be_read_is_not_well() -> None:
    with pytest.raises(PayloadError, match="none of its items"):
        await _api(runtime_that_lists({"id": "abc", "path": "not a url"}))
