"""Fixtures of the faults of the image host.

Images take The fast client, which hands what it finds odd to aiohttp; where that may matter, a case
goes both ways. With one image in flight they are asked for in the order of their ids, on one
connection after the other, so that requests can be counted.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from image_faults import Way
from PIL import Image

from collector.core.retry import EdgeHealth
from collector.http import open_http
from collector.stages import mirror


@pytest.fixture(params=["fast client", pytest.param("aiohttp", marks=pytest.mark.slow)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Images go through the fast client, with aiohttp as its fallback, or aiohttp alone."""
    if request.param == "aiohttp":
        monkeypatch.setattr("collector.http.open_http", partial(open_http, is_fast=False))
    return str(request.param)


@pytest.fixture(scope="module")
def three_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small JPEG, PNG and WebP."""
    folder = tmp_path_factory.mktemp("three_kinds")
    for name in ("a.jpg", "b.png", "c.webp"):
        Image.effect_noise((48, 48), 60).convert("RGB").save(folder / name)
    return folder


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture of a little more than one part."""
    folder = tmp_path_factory.mktemp("two_parts")
    noise = Image.effect_noise((1700, 1700), 90).convert("RGB")
    noise.save(folder / "noise.png", compress_level=0)
    return folder


@pytest.fixture(autouse=True)
def _no_last_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are counted here; test_last_images.py is about the one that comes last."""
    monkeypatch.setattr(EdgeHealth, "ends_failing", property(lambda _: False))


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "DEADLINE_BASE_SECONDS", 0.3)
