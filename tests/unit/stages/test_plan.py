"""Plan asks little, writes nothing, and passes on what it finds."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from unit.sources.wallhaven.shapes import ITEM

from collector.core.errors import Edge, Outage, Unreadable
from collector.core.planning import Holdings
from collector.sources import ApiRequest
from collector.sources.wallhaven import CollectionName, Query, WallhavenCollection, WallhavenSearch
from collector.stages.api_client import ApiClient
from collector.stages.plan import PlanReport, plan

API = "https://wallhaven.cc/api/v1"
SEARCH = WallhavenSearch(API, Query(q="elf"))
PER_PAGE = 24

T = TypeVar("T")


class FakeApi(ApiClient):
    """A listing of images of these sizes, None where the API names none."""

    def __init__(self, sizes: list[int | None], unreadable: int = 0) -> None:
        self._sizes = sizes
        self._unreadable = unreadable
        self.last_page = max(1, -(-len(sizes) // PER_PAGE))
        self.pages: list[int] = []

    @property
    def requests_sent(self) -> int:
        return len(self.pages)

    async def get(
        self, request: ApiRequest, parse: Callable[[bytes], T], witness: ApiRequest | None = None
    ) -> T:
        found = re.search(r"[?&]page=(\d+)", request.url)
        assert found is not None
        self.pages.append(int(found[1]))
        if self.pages[-1] == self._unreadable:
            raise Unreadable(Edge.API, "the API refused the request (HTTP 400)")
        return parse(json.dumps(self._answer(self.pages[-1])).encode())

    def _answer(self, page: int) -> dict[str, Any]:
        start = (page - 1) * PER_PAGE
        shown = list(enumerate(self._sizes))[start : start + PER_PAGE]
        meta = {"last_page": self.last_page, "total": len(self._sizes), "per_page": PER_PAGE}
        data = [ITEM | {"id": f"id{number}", "file_size": size} for number, size in shown]
        return {"data": data, "meta": meta}


class FakeCatalog:
    async def holdings(self) -> Holdings:
        return Holdings(7, 5)


async def planned(api: FakeApi, source: Any = SEARCH) -> PlanReport:
    return await plan(source=source, api=api, catalog=FakeCatalog(), requests_per_minute=30)


@pytest.mark.parametrize(
    ("images", "pages"),
    [(0, [1]), (1, [1]), (24, [1]), (25, [1, 2]), (49, [1, 2, 3]), (2400, [1, 50, 100])],
)
async def test_it_reads_three_pages_at_most(images: int, pages: list[int]) -> None:
    api = FakeApi([1000] * images)
    report = await planned(api)
    assert api.pages == pages
    assert report.api_calls_used == len(pages)
    assert (report.plan.images, report.plan.pages) == (images, max(1, -(-images // PER_PAGE)))


@pytest.mark.parametrize("unreadable", [50, 100])
async def test_a_page_that_cannot_be_read_is_done_without(unreadable: int) -> None:
    api = FakeApi([1000] * 2400, unreadable)
    report = await planned(api)
    assert api.pages == [1, 50, 100]
    assert (report.plan.images, report.plan.pages, report.plan.sampled_images) == (2400, 100, 48)


async def test_without_the_first_page_there_is_no_plan() -> None:
    with pytest.raises(Outage, match="HTTP 400"):
        await planned(FakeApi([1000] * 48, unreadable=1))


async def test_a_list_that_was_read_as_a_whole_is_counted() -> None:
    report = await planned(FakeApi([1_000_000] * 40 + [20_000_000] * 10))
    assert report.as_json() == {
        "search": SEARCH.search_key,
        "images": 50,
        "pages": 3,
        "api_calls": 4,
        "requests_per_minute": 30,
        "hours": 0.0022,
        "gigabytes": 0.24,
        "gigabytes_least": 0.24,
        "gigabytes_most": 0.24,
        "puts": 40 + 10 * 5,
        "puts_least": 90,
        "puts_most": 90,
        "sampled_images": 50,
        "api_calls_used": 3,
        "known_wallpapers": 7,
        "stored_images": 5,
    }


async def test_a_sample_says_how_sure_it_is() -> None:
    chance = random.Random(7)
    truth = [chance.randrange(1_000_000, 2_000_000) for _ in range(2400)]
    found = (await planned(FakeApi([*truth]))).as_json()
    assert found["sampled_images"] == 72
    assert found["gigabytes_least"] < sum(truth) / 1e9 < found["gigabytes_most"]
    assert found["puts"] == 2400


async def test_images_without_a_size_are_no_part_of_the_sample() -> None:
    some = await planned(FakeApi([None, 3_000_000] * 12))
    assert some.plan.sampled_images == 12
    assert some.plan.gigabytes is not None
    assert some.plan.gigabytes.likely == pytest.approx(0.072)
    none = (await planned(FakeApi([None] * 5))).as_json()
    assert [none[name] for name in ("gigabytes", "gigabytes_most", "puts")] == [None] * 3


async def test_an_image_on_two_pages_is_one_image() -> None:
    class Moving(FakeApi):
        def _answer(self, page: int) -> dict[str, Any]:
            return super()._answer(1) if page == 2 else super()._answer(page)

    assert (await planned(Moving([1000] * 48))).plan.sampled_images == 24


async def test_a_collection_can_be_planned() -> None:
    source = WallhavenCollection(API, CollectionName("someone", 15))
    report = await planned(FakeApi([1000] * 30), source)
    assert (report.search_key, report.plan.images) == (source.search_key, 30)


async def test_an_outage_passes_through() -> None:
    class Down(FakeApi):
        async def get(
            self,
            request: ApiRequest,
            parse: Callable[[bytes], T],
            witness: ApiRequest | None = None,
        ) -> T:
            raise Outage(Edge.API, "down")

    with pytest.raises(Outage):
        await planned(Down([]))
