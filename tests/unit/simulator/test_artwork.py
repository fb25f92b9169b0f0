from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from collector.simulator.artwork import ARTWORKS, Artwork, Shape, bound_bytes, draw
from collector.simulator.padding import JPEG, PNG
from collector.simulator.stock import DrawnStock


@pytest.mark.parametrize("artwork", ARTWORKS, ids=lambda artwork: artwork.name)
def test_every_base_image_keeps_its_bound_and_has_its_shape(artwork: Artwork) -> None:
    for shape in DrawnStock().shapes:
        content = draw(artwork, shape)
        assert len(content) <= bound_bytes(shape), shape
        with Image.open(BytesIO(content)) as image:
            assert image.size == (shape.width, shape.height)
            assert Image.MIME[image.format or ""] == shape.file_type


@pytest.mark.parametrize("file_type", [JPEG, PNG])
def test_images_are_drawn_the_same_each_time(file_type: str) -> None:
    shape = Shape(320, 200, file_type)
    assert draw(ARTWORKS[0], shape) == draw(ARTWORKS[0], shape)


def test_artworks_are_different_images_of_many_tones() -> None:
    images = [draw(artwork, Shape(320, 200, PNG)) for artwork in ARTWORKS]
    assert len(set(images)) == len(ARTWORKS)
    for content in images:
        with Image.open(BytesIO(content)) as image:
            assert len(set(image.tobytes())) > 12


def test_a_image_shows_the_colors_of_its_listing() -> None:
    artwork = ARTWORKS[0]
    with Image.open(BytesIO(draw(artwork, Shape(320, 200, PNG)))) as image:
        colors = image.convert("RGB").getcolors(maxcolors=320 * 200) or []
    seen = {color for _, color in colors}
    for end in (artwork.colors[0], artwork.colors[-1]):
        wanted = bytes.fromhex(end[1:])
        assert any(max(abs(a - b) for a, b in zip(it, wanted, strict=True)) <= 3 for it in seen)
