"""Fixtures of the faults of the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from collector.store import failures


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries of one call follow at once."""
    monkeypatch.setattr(failures, "RETRY_BASE_SECONDS", 0.001)


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture of a little more than one part."""
    folder = tmp_path_factory.mktemp("two_parts")
    noise = Image.effect_noise((1700, 1700), 90).convert("RGB")
    noise.save(folder / "noise.png", compress_level=0)
    return folder
