from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import ClientSession
from PIL import Image

from collector.simulator import Catalogue, EmptyFolderError, SimulatorOptions, open_simulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in name order, and two files that are none."""
    for name, size in (("a.jpg", (90, 60)), ("b.png", (64, 64)), ("c.webp", (50, 100))):
        Image.new("RGB", size, "#0066cc").save(tmp_path / name)
    (tmp_path / "aa-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_one_file_for_each_item_is_served_unchanged(folder: Path) -> None:
    catalogue = Catalogue(SimulatorOptions(wallpapers=3, images=folder))
    names = ("a.jpg", "b.png", "c.webp")
    for item, name in zip(catalogue, names, strict=True):
        content = (folder / name).read_bytes()
        assert b"".join(catalogue.body(item)) == content
        assert item.file_size == len(content)
    assert [item.resolution for item in catalogue] == ["90x60", "64x64", "50x100"]
    assert [item.ratio for item in catalogue] == ["1.5", "1", "0.5"]
    assert [item.extension for item in catalogue] == ["jpg", "png", "webp"]


def test_repeated_files_differ_in_their_bytes_and_still_decode(folder: Path) -> None:
    catalogue = Catalogue(SimulatorOptions(wallpapers=12, images=folder))
    assert [item.extension for item in catalogue[:4]] == ["jpg", "png", "webp", "jpg"]
    jpeg_and_png = [item for item in catalogue if item.extension != "webp"]
    assert len({catalogue.sha256(item) for item in jpeg_and_png}) == 8
    assert len({item.id for item in catalogue}) == 12
    for item in catalogue:
        content = b"".join(catalogue.body(item))
        assert len(content) == item.file_size
        with Image.open(BytesIO(content)) as image:
            image.load()
            assert image.size == (item.dimension_x, item.dimension_y)


def test_a_jpeg_without_app0_can_be_padded(tmp_path: Path) -> None:
    plain = BytesIO()
    Image.new("RGB", (30, 20)).save(plain, "JPEG")
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8" + plain.getvalue()[20:])
    catalogue = Catalogue(SimulatorOptions(wallpapers=2, images=tmp_path))
    for item in catalogue:
        with Image.open(BytesIO(b"".join(catalogue.body(item)))) as image:
            image.load()


@pytest.mark.parametrize("missing", [False, True])
def test_a_folder_without_images_is_a_clear_error(tmp_path: Path, missing: bool) -> None:
    folder = tmp_path / "none" if missing else tmp_path
    with pytest.raises(EmptyFolderError, match=f"{folder}: no readable") as caught:
        Catalogue(SimulatorOptions(images=folder))
    assert caught.value.folder == folder


async def test_a_folder_is_served_with_images_and_thumbs(
    folder: Path, session: ClientSession
) -> None:
    async with open_simulator(SimulatorOptions(wallpapers=3, images=folder)) as simulator:
        async with session.get(f"{simulator.api_url}/search?q=draenei") as response:
            items = (await response.json())["data"]
        for item, name in zip(items, ("a.jpg", "b.png", "c.webp"), strict=True):
            async with session.get(item["path"]) as response:
                assert response.content_type == item["file_type"]
                assert await response.read() == (folder / name).read_bytes()
            async with session.get(item["thumbs"]["small"]) as response:
                assert (await response.read()).startswith(b"\xff\xd8")
