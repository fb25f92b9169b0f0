from __future__ import annotations

import hashlib
import statistics
import time
import tracemalloc
from collections import Counter
from datetime import timedelta
from io import BytesIO
from itertools import pairwise

import pytest
from PIL import Image

from collector.simulator import Catalogue, SimulatorOptions
from collector.simulator.population import TAGS


@pytest.fixture(scope="module")
def large() -> Catalogue:
    return Catalogue(SimulatorOptions(wallpapers=20_000))


def test_equal_options_give_equal_items_and_bytes() -> None:
    first, second = (Catalogue(SimulatorOptions(wallpapers=30, seed=3)) for _ in range(2))
    assert list(first) == list(second)
    assert first.sha256(first[4]) == second.sha256(second[4])


def test_an_item_does_not_depend_on_how_many_there_are(large: Catalogue) -> None:
    assert Catalogue(SimulatorOptions(wallpapers=50))[:] == large[:50]


def test_seeds_give_different_catalogues() -> None:
    first, second = (Catalogue(SimulatorOptions(wallpapers=30, seed=seed)) for seed in (1, 2))
    assert not {item.id for item in first} & {item.id for item in second}
    assert first.newest != second.newest


def test_it_is_a_sequence(large: Catalogue) -> None:
    small = Catalogue(SimulatorOptions(wallpapers=3))
    assert [item.index for item in small] == [0, 1, 2]
    assert small[-1] == small[2]
    with pytest.raises(IndexError):
        small[3]
    assert len(large) == 20_000


def test_items_are_found_by_id(large: Catalogue) -> None:
    assert large.find(large[12_345].id) == large[12_345]
    small = Catalogue(SimulatorOptions(wallpapers=3))
    assert small.find(large[3].id) is None
    assert small.find("000000") is None
    assert small.find("nonsense!") is None


def test_items_fall_in_time_and_span_years(large: Catalogue) -> None:
    times = [large.created_at(index) for index in range(len(large))]
    assert all(newer > older for newer, older in pairwise(times))
    assert times[0] - times[199] > timedelta(days=2 * 365)
    assert timedelta(days=9 * 365) < times[0] - times[-1] < timedelta(days=12 * 365)


def test_the_population_is_the_measured_one(large: Catalogue) -> None:
    items = large[:]
    shares = Counter(item.file_type for item in items)
    assert shares["image/png"] / len(items) == pytest.approx(0.231, abs=0.01)
    shares = Counter(item.category for item in items)
    assert shares["general"] / len(items) == pytest.approx(0.67, abs=0.015)
    assert Counter(item.purity for item in items) == {"sfw": len(items)}
    wide = sum(item.ratio in ("1.78", "1.6") for item in items)
    assert wide / len(items) == pytest.approx(0.54, abs=0.015)
    full_hd = sum(item.resolution in ("1920x1080", "1920x1200") for item in items)
    assert full_hd / len(items) == pytest.approx(0.30, abs=0.015)
    atleast = sum(item.dimension_x >= 1920 and item.dimension_y >= 1080 for item in items)
    assert atleast / len(items) == pytest.approx(0.77, abs=0.015)


def test_file_sizes_are_lognormal_within_their_limits(large: Catalogue) -> None:
    jpeg = [item.file_size for item in large if item.file_type == "image/jpeg"]
    png = [item.file_size for item in large if item.file_type == "image/png"]
    assert statistics.median(jpeg) == pytest.approx(1_050_000, rel=0.05)
    assert statistics.median(png) == pytest.approx(4_600_000, rel=0.05)
    assert min(jpeg + png) >= 30_000
    assert max(jpeg + png) <= 35_000_000
    assert statistics.mean(jpeg + png) == pytest.approx(2_650_000, rel=0.08)


def test_every_item_carries_the_default_tag(large: Catalogue) -> None:
    assert all(item.tags[0].name == "draenei" for item in large[:2_000])
    anime = sum("anime" in [tag.name for tag in item.tags] for item in large)
    assert anime / len(large) == pytest.approx(0.233, abs=0.015)


def test_purities_come_in_the_shares_asked_for() -> None:
    catalogue = Catalogue(SimulatorOptions(wallpapers=5_000, sketchy_share=0.2, nsfw_share=0.1))
    counts = Counter(item.purity for item in catalogue)
    assert counts["sketchy"] / 5_000 == pytest.approx(0.2, abs=0.025)
    assert counts["nsfw"] / 5_000 == pytest.approx(0.1, abs=0.02)


def test_columns_agree_with_the_items(large: Catalogue) -> None:
    for index in (0, 1, 77, 19_999):
        item = large[index]
        assert large.columns.views[index] == item.views
        assert large.columns.favorites[index] == item.favorites
        assert large.shapes[large.columns.shape[index]].width == item.dimension_x
        bits = large.columns.tags[index]
        assert [tag for bit, tag in enumerate(TAGS) if bits >> bit & 1] == list(item.tags)


def test_bodies_are_what_the_metadata_say() -> None:
    catalogue = Catalogue(SimulatorOptions(wallpapers=24))
    digests = set()
    for item in catalogue:
        content = b"".join(catalogue.body(item))
        assert len(content) == item.file_size
        digests.add(hashlib.sha256(content).hexdigest())
        assert catalogue.sha256(item) in digests
        assert content.endswith(b"\xff\xd9" if item.extension == "jpg" else b"IEND\xaeB`\x82")
        with Image.open(BytesIO(content)) as image:
            assert image.size == (item.dimension_x, item.dimension_y)
            assert Image.MIME[image.format or ""] == item.file_type
            image.load()
    assert len(digests) == len(catalogue)


def test_a_large_catalogue_costs_little_time_and_memory() -> None:
    started = time.process_time()
    catalogue = Catalogue(SimulatorOptions(wallpapers=100_000))
    assert len(catalogue.columns.views) == 100_000
    assert time.process_time() - started < 6  # about 1 s; room for a busy machine
    tracemalloc.start()
    assert catalogue[99_999].file_size > 0
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert sum(column.itemsize * len(column) for column in catalogue.columns) < 40 * 100_000
