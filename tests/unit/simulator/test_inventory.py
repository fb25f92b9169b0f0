"""Uploads and deletions while clients read."""

from __future__ import annotations

from itertools import pairwise

from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.simulator import (
    Catalogue,
    Drift,
    Inventory,
    Profile,
    Simulator,
    SimulatorOptions,
    open_simulator,
)

PER_REQUEST = Drift(uploads_per_100_requests=100, deletions_per_100_requests=50)


def _options(drift: Drift, wallpapers: int = 60) -> SimulatorOptions:
    profile = Profile(drift=drift)
    return SimulatorOptions(wallpapers=wallpapers, requests_per_minute=0, profile=profile)


def _inventory(drift: Drift, wallpapers: int = 60, seed: int = 7) -> Inventory:
    catalogue = Catalogue(_options(drift, wallpapers))
    return Inventory(catalogue, drift, seed)


async def _ids(session: ClientSession, simulator: Simulator, page: int) -> list[str]:
    async with session.get(f"{simulator.api_url}/search", params={"page": page}) as response:
        answer = await response.json()
    assert answer["meta"]["total"] == len(simulator.inventory.wallpapers())
    return [item["id"] for item in answer["data"]]


def test_drift_does_not_change_the_wallpapers_of_the_start() -> None:
    plain, growing = Catalogue(_options(Drift())), Catalogue(_options(PER_REQUEST))
    at_start = _inventory(PER_REQUEST).wallpapers()
    assert [item.id for item in at_start] == [item.id for item in plain]
    assert [item.created_at for item in at_start] == [item.created_at for item in plain]
    assert growing.sha256(at_start[0]) == plain.sha256(plain[0])


def test_uploads_are_newer_than_all_others_and_can_be_found() -> None:
    catalogue = Catalogue(_options(PER_REQUEST))
    assert catalogue.upcoming == 1_000
    assert all(a.created_at > b.created_at for a, b in pairwise(catalogue[:1_010]))
    assert len({item.id for item in catalogue}) == 1_060
    assert all(catalogue.find(item.id) == item for item in catalogue[990:1_010])


def test_rates_by_request() -> None:
    inventory = _inventory(PER_REQUEST)
    inventory.advance(1)
    assert (len(inventory.uploaded), len(inventory.deleted)) == (1, 0)
    inventory.advance(20)
    assert (len(inventory.uploaded), len(inventory.deleted)) == (20, 10)


def test_the_seed_decides_what_is_deleted() -> None:
    deleted = []
    for seed in (1, 1, 2):
        inventory = _inventory(PER_REQUEST, seed=seed)
        for number in range(1, 30):
            inventory.advance(number)
        deleted.append([item.index for item in inventory.deleted])
    assert deleted[0] == deleted[1] != deleted[2]


def test_uploads_and_deletions_end() -> None:
    drift = Drift(uploads_per_100_requests=100, max_uploads=3, deletions_per_100_requests=100)
    inventory = _inventory(drift, wallpapers=5)
    inventory.advance(1_000)
    assert len(inventory.uploaded) == 3
    assert len(inventory.deleted) == 8
    assert inventory.wallpapers() == []


@settings(deadline=None)  # on a busy machine an example may take long
@given(st.integers(0, 40), st.floats(0, 500), st.floats(0, 500), st.integers(0, 50))
def test_the_inventory_is_the_start_plus_uploads_minus_deletions(
    wallpapers: int, uploads: float, deletions: float, requests: int
) -> None:
    drift = Drift(
        uploads_per_100_requests=uploads, deletions_per_100_requests=deletions, max_uploads=30
    )
    inventory = _inventory(drift, wallpapers)
    start = {item.id for item in inventory.wallpapers()}
    for number in range(1, requests + 1):
        inventory.advance(number)
    came = {item.id for item in inventory.uploaded}
    gone = {item.id for item in inventory.deleted}
    assert {item.id for item in inventory.wallpapers()} == (start | came) - gone
    assert len(gone) == len(inventory.deleted)
    assert gone <= start | came


async def test_uploads_shift_pages(session: ClientSession) -> None:
    drift = Drift(uploads_per_100_requests=50)  # one with every second request
    async with open_simulator(_options(drift)) as simulator:
        first, second = [await _ids(session, simulator, page) for page in (1, 2)]
    assert second[0] == first[-1]
    assert second[1:] == [item.id for item in simulator.catalogue[1_024:1_047]]


async def test_deletions_pull_pages_up(session: ClientSession) -> None:
    drift = Drift(deletions_per_100_requests=2_000)
    async with open_simulator(_options(drift)) as simulator:
        seen = [await _ids(session, simulator, page) for page in (1, 2, 3)]
    assert [len(page) for page in seen] == [24, 0, 0]  # 40, 20 and none of 60 are left
    assert not {item.id for item in simulator.inventory.deleted[:20]} & set(seen[0])


async def test_deleted_wallpapers_are_gone_from_api_and_image_host(session: ClientSession) -> None:
    for images, status in (("gone", 404), ("kept", 200)):
        drift = Drift(deletions_per_100_requests=100, deleted_images=images)
        async with open_simulator(_options(drift)) as simulator:
            await _ids(session, simulator, 1)
            (gone,) = simulator.inventory.deleted
            async with session.get(f"{simulator.api_url}/w/{gone.id}") as response:
                assert response.status == 404
            async with session.get(simulator.image_url(gone)) as response:
                assert response.status == status


async def test_wallpapers_do_not_exist_before_their_upload(session: ClientSession) -> None:
    drift = Drift(uploads_per_100_requests=50)
    async with open_simulator(_options(drift)) as simulator:
        coming = simulator.catalogue[simulator.catalogue.upcoming - 1]
        statuses = []
        for url in (simulator.image_url(coming), *[f"{simulator.api_url}/w/{coming.id}"] * 2):
            async with session.get(url) as response:
                statuses.append(response.status)
    assert statuses == [404, 404, 200]


async def test_collections_take_no_uploads(session: ClientSession) -> None:
    async with open_simulator(_options(Drift(uploads_per_100_requests=300))) as simulator:
        async with session.get(f"{simulator.api_url}/collections/Archon/15") as response:
            answer = await response.json()
        expected = [item.id for item in simulator.catalogue[1_000::3]]
        assert [item["id"] for item in answer["data"]] == expected
        async with session.get(f"{simulator.api_url}/collections/Archon") as response:
            assert [item["count"] for item in (await response.json())["data"]] == [20]
