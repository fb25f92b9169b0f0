"""What doctor says of an API that answers, and what to do about a failure."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collector.cli.progress import SilentProgress
from collector.core.errors import Edge, Outage, PayloadError
from collector.doctor import _api, _check
from collector.ports import Reply
from collector.runtime.opening import Need, Runtime
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


async def test_a_page_without_readable_items_is_a_failure() -> None:
    with pytest.raises(PayloadError, match="none of its items"):
        await _api(runtime_that_lists({"id": "abc", "path": "not a url"}))


@pytest.mark.parametrize(
    ("problem", "found"),
    [
        ("HTTP 500", "HTTP 500; check WALLHAVEN_API_URL and the network of this machine"),
        ("refused: check WALLHAVEN_API_KEY", "refused: check WALLHAVEN_API_KEY"),
        ("no schema; run `collector migrate`", "no schema; run `collector migrate`"),
    ],
)
async def test_a_failure_says_what_to_do_once(problem: str, found: str) -> None:
    async def fail(_: Runtime) -> str:
        raise Outage(Edge.API, problem)

    check = await _check(load_settings(None), SilentProgress(), "api", Need(0), fail)
    assert (check.is_ok, check.found) == (False, found)
