"""Base images: drawn ones, and the files of a folder."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import ClientSession
from PIL import Image

from collector.simulator import Catalogue, EmptyFolderError, SimulatorOptions, open_simulator
from collector.simulator.padding import JPEG, PNG
from collector.simulator.stock import ARTWORKS, Artwork, DrawnStock, Shape, bound_bytes, draw


@pytest.mark.parametrize("artwork", ARTWORKS, ids=lambda artwork: artwork.name)
def test_each_drawn_file_has_its_shape_and_stays_within_its_bound(artwork: Artwork) -> None:
    for shape in DrawnStock().shapes:
        content = draw(artwork, shape)
        assert len(content) <= bound_bytes(shape), shape
        with Image.open(BytesIO(content)) as image:
            assert image.size == (shape.width, shape.height)
            assert Image.MIME[image.format or ""] == shape.file_type


@pytest.mark.parametrize("file_type", [JPEG, PNG])
def test_drawing_twice_gives_equal_files(file_type: str) -> None:
    shape = Shape(320, 200, file_type)
    assert draw(ARTWORKS[0], shape) == draw(ARTWORKS[0], shape)


def test_artworks_differ_and_have_many_tones() -> None:
    images = [draw(artwork, Shape(320, 200, PNG)) for artwork in ARTWORKS]
    assert len(set(images)) == len(ARTWORKS)
    for content in images:
        with Image.open(BytesIO(content)) as image:
            assert len(set(image.tobytes())) > 12


def test_an_image_has_the_colors_of_its_listing() -> None:
    artwork = ARTWORKS[0]
    with Image.open(BytesIO(draw(artwork, Shape(320, 200, PNG)))) as image:
        colors = image.convert("RGB").getcolors(maxcolors=320 * 200) or []
    seen = {color for _, color in colors}
    for end in (artwork.colors[0], artwork.colors[-1]):
        wanted = bytes.fromhex(end[1:])
        assert any(max(abs(a - b) for a, b in zip(it, wanted, strict=True)) <= 3 for it in seen)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in name order, two files that are not images, and a folder."""
    for name, size in (("a.jpg", (90, 60)), ("b.png", (64, 64)), ("c.webp", (50, 100))):
        Image.new("RGB", size, "#0066cc").save(tmp_path / name)
    (tmp_path / "aa-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_files_are_served_unchanged_if_there_is_one_for_each_item(folder: Path) -> None:
    catalogue = Catalogue(SimulatorOptions(wallpapers=3, images=folder))
    names = ("a.jpg", "b.png", "c.webp")
    for item, name in zip(catalogue, names, strict=True):
        content = (folder / name).read_bytes()
        assert b"".join(catalogue.body(item)) == content
        assert item.file_size == len(content)
    assert [item.resolution for item in catalogue] == ["90x60", "64x64", "50x100"]
    assert [item.ratio for item in catalogue] == ["1.5", "1", "0.5"]
    assert [item.extension for item in catalogue] == ["jpg", "png", "webp"]


def test_repeated_files_have_different_bytes_and_still_decode(folder: Path) -> None:
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
def test_a_folder_without_images_is_refused(tmp_path: Path, missing: bool) -> None:
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
