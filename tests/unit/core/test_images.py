"""What the first and last bytes of whole, cut, broken and foreign bodies say."""

from __future__ import annotations

import gc
import hashlib
import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin, PngImagePlugin

from collector.core import image_reader, images
from collector.core.image_reader import LONG_LOOK_BYTES, MAX_SEGMENTS, ImageReader
from collector.core.images import (
    MAX_CHUNK_READS,
    MAX_DECODED_PIXELS,
    MAX_HEADER_READS,
    SHORT_LOOK_BYTES,
    ImageHead,
    ImageType,
    image_type_of_extension,
    image_type_of_file_type,
    is_whole,
    read_head,
)

WIDTH, HEIGHT = 67, 45


def noise(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    pixel_bytes = len(Image.new(mode, (1, 1)).tobytes())
    pixels = hashlib.shake_128(b"noise").digest(size[0] * size[1] * pixel_bytes)
    return Image.frombytes(mode, size, pixels)


@contextmanager
def look_bytes(*, short: int, long: int) -> Iterator[None]:
    with (
        patch.multiple(image_reader, SHORT_LOOK_BYTES=short, LONG_LOOK_BYTES=long),
        patch.object(images, "SHORT_LOOK_BYTES", short),
    ):
        yield


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, file_format, **options)
    return body.getvalue()


def interlaced_png() -> bytes:
    """One pixel is its own first Adam7 pass, so the flag alone makes it interlaced."""
    body = saved(noise(size=(1, 1)), "PNG")
    header = body[12:28] + b"\x01"
    return body[:12] + header + struct.pack(">I", zlib.crc32(header)) + body[33:]


def annotated_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "IEND \xff\xd9" * 30, zip=True)
    text.add_itxt("Title", "IEND")
    return saved(noise("P"), "PNG", pnginfo=text, dpi=(96, 96), transparency=3, icc_profile=b"IEND")


THUMBNAIL = saved(noise(size=(16, 16)), "JPEG")
EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0" + THUMBNAIL

SAMPLES: dict[str, bytes] = {
    "jpeg baseline": saved(noise(), "JPEG", quality=95),
    "jpeg progressive": saved(noise(), "JPEG", quality=95, progressive=True),
    "jpeg exif thumbnail": saved(noise(), "JPEG", exif=EXIF, comment=b"\xff\xd9"),
    "jpeg restart rows": saved(noise(), "JPEG", restart_marker_rows=1),
    "jpeg restart blocks": saved(noise(), "JPEG", progressive=True, restart_marker_blocks=1),
    "jpeg gray": saved(noise("L"), "JPEG"),
    "jpeg cmyk": saved(noise("CMYK"), "JPEG", icc_profile=b"\xff\xd9" * 40_000),
    "png": saved(noise(), "PNG"),
    "png alpha": saved(noise("RGBA"), "PNG"),
    "png interlaced": interlaced_png(),
    "png palette annotated": annotated_png(),
    "png animated": saved(noise(), "PNG", save_all=True, append_images=[noise().rotate(180)]),
    "webp lossy": saved(noise(), "WEBP", quality=80),
    "webp lossless": saved(noise(), "WEBP", lossless=True),
    "webp alpha": saved(noise("RGBA"), "WEBP", quality=80),
    "webp annotated": saved(noise(), "WEBP", exif=EXIF[:-1], xmp=b"odd"),
    "webp animated": saved(noise(), "WEBP", save_all=True, append_images=[noise().rotate(180)]),
}
each_sample = pytest.mark.parametrize("body", SAMPLES.values(), ids=SAMPLES.keys())
sample_bodies = st.sampled_from(list(SAMPLES.values()))


# A head, and whether the end is there.
Told = tuple[ImageHead, bool]


def fed(body: bytes, cuts: Sequence[int]) -> ImageReader:
    reader = ImageReader()
    for start, end in pairwise([0, *cuts, len(body)]):
        reader.feed(memoryview(body)[start:end] if start % 2 else body[start:end])
    return reader


def told_cut(body: bytes, cuts: Sequence[int]) -> Told:
    reader = fed(body, cuts)
    head = reader.head()
    return head, reader.has_end(head)


def told(body: bytes, chunk_bytes: int = 1 << 16) -> Told:
    return told_cut(body, range(chunk_bytes, len(body), chunk_bytes))


def is_complete(body: bytes) -> bool:
    """Whether a body passes where its row tells no size."""
    head, has_end = told(body)
    return head.size is not None and has_end and is_whole(ImageType(head.type or ""), body)


# --- JPEG, PNG and WebP by hand -----------------------------------------------------------------


def segment(code: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def frame(width: int = WIDTH, height: int = HEIGHT, code: int = 0xC0) -> bytes:
    return segment(code, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")


SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", segment(0xDA, b"\1\1\0\0\x3f\0")
SCAN = SOS + b"entropy"


def chunk(kind: bytes, body: bytes = b"", crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def header(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


PNG, IDAT, IEND = b"\x89PNG\r\n\x1a\n", chunk(b"IDAT", b"data"), chunk(b"IEND")
IHDR = chunk(b"IHDR", header())


def riff(*chunks: bytes, form: bytes = b"WEBP") -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + form + b"".join(chunks)


def part(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def lossy(width: int = WIDTH, tag: int = 0, start: bytes = b"\x9d\x01\x2a") -> bytes:
    return part(b"VP8 ", bytes([tag, 0, 0]) + start + struct.pack("<HH", width, HEIGHT) + b"data")


def lossless(signature: int = 0x2F, version: int = 0) -> bytes:
    bits = (WIDTH - 1) | (HEIGHT - 1) << 14 | version << 29
    return part(b"VP8L", struct.pack("<BI", signature, bits) + b"data")


EXTENDED = part(b"VP8X", bytes([0, 0, 0, 0, WIDTH - 1, 0, 0, HEIGHT - 1, 0, 0]))


# --- whole images -------------------------------------------------------------------------------


@each_sample
def test_a_whole_image_has_the_type_and_size_that_pillow_finds(body: bytes) -> None:
    with Image.open(io.BytesIO(body)) as image:
        image.load()
        expected = (f"image/{image.format}".lower(), image.size)
    head, has_end = told(body)
    assert (head.type, head.size) == expected
    assert has_end
    assert is_complete(body)
    assert not head.looks_like_text


def test_the_samples_hold_what_their_names_say() -> None:
    with Image.open(io.BytesIO(SAMPLES["png interlaced"])) as image:
        assert image.info["interlace"] == 1
    assert SAMPLES["jpeg baseline"].count(b"\xff\x00") > 10
    assert SAMPLES["jpeg progressive"].count(b"\xff\xda") > 5
    assert b"\xff\xd0" in SAMPLES["jpeg restart rows"]
    assert SAMPLES["jpeg exif thumbnail"].count(EOI) == 3
    assert b"ANMF" in SAMPLES["webp animated"]
    assert b"ALPH" in SAMPLES["webp alpha"]
    assert b"VP8L" in SAMPLES["webp lossless"]


@each_sample
def test_an_image_has_its_end_at_its_last_byte_and_no_sooner(body: bytes) -> None:
    head = read_head(body)
    reader = ImageReader()
    for position in range(len(body)):
        if position < 1000 or position > len(body) - 100:
            assert not reader.has_end(head), position
        reader.feed(body[position : position + 1])
    assert reader.has_end(head)


@given(sample_bodies, st.binary(max_size=20), st.data())
def test_what_is_told_does_not_depend_on_where_chunks_end(
    body: bytes, trailing: bytes, data: st.DataObject
) -> None:
    body += trailing
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=30)))
    with look_bytes(short=500, long=2000):
        assert told_cut(body, cuts) == told(body)


@given(sample_bodies, st.data())
def test_a_prefix_is_never_complete(body: bytes, data: st.DataObject) -> None:
    assert not is_complete(body[: data.draw(st.integers(0, len(body) - 1))])


def ends_within(body: bytes, marker: bytes) -> bytes:
    """Return the longest prefix that ends in an end marker, and is not all of it."""
    return body[: body.rindex(marker, 0, -1) + len(marker)]


LAST_SCAN = SAMPLES["jpeg progressive"].rindex(b"\xff\xda")
CAUGHT = {
    "within a comment between two scans": ends_within(
        SAMPLES["jpeg progressive"][:LAST_SCAN]
        + segment(0xFE, b"ends" + EOI + b"here")
        + SAMPLES["jpeg progressive"][LAST_SCAN:],
        EOI,
    ),
    "within a text": ends_within(SAMPLES["png"][:33] + chunk(b"tEXt", IEND) + IDAT + IEND, IEND),
}


@pytest.mark.parametrize("body", CAUGHT.values(), ids=CAUGHT.keys())
def test_a_prefix_that_happens_to_end_in_an_end_marker_is_not_whole(body: bytes) -> None:
    head, has_end = told(body)
    assert head.type is not None
    assert has_end, "that alone would not tell"
    assert not is_whole(head.type, body)


def test_a_thumbnail_is_not_the_end() -> None:
    body = SAMPLES["jpeg exif thumbnail"]
    cut = body[: body.index(EOI, body.index(THUMBNAIL[-20:])) + len(EOI)]
    assert cut.endswith(EOI)
    assert told(cut) == (ImageHead(ImageType.JPEG), True)


# --- bytes after the end ------------------------------------------------------------------------


@each_sample
@pytest.mark.parametrize("trailing", [b"\0", b"<html>", EOI * 9, bytes(200_000)])
def test_bytes_may_follow_the_end(body: bytes, trailing: bytes) -> None:
    assert told(body + trailing, 999) == told(body)
    assert is_complete(body + trailing)


@pytest.mark.parametrize(("more_bytes", "has_end"), [(0, True), (1, False)])
def test_an_end_marker_is_looked_for_in_the_last_part(more_bytes: int, has_end: bool) -> None:
    body = SAMPLES["jpeg baseline"] + bytes(LONG_LOOK_BYTES - len(EOI) + more_bytes)
    assert told(body)[1] is has_end


# --- anything else ------------------------------------------------------------------------------

signatures = st.sampled_from([b"", SOI, SOI + frame() + SOS, PNG, PNG + IHDR, riff(lossy())[:12]])
pieces = st.one_of(
    st.binary(max_size=9),
    st.sampled_from([b"\xff", b"\0", EOI, SOS, frame(), segment(0xFE), IDAT, IEND, lossy()]),
    st.sampled_from([segment(0xE1, EXIF[:40]), segment(0xE2, b"MPF\0II*\0"), segment(0xDB)]),
)


@settings(deadline=None)  # it decodes, on a machine that may be busy
@given(signatures, st.lists(pieces, max_size=12), st.integers(1, 40))
def test_no_bytes_raise_and_what_is_told_does_not_depend_on_chunks(
    signature: bytes, rest: list[bytes], chunk_bytes: int
) -> None:
    body = signature + b"".join(rest)
    with look_bytes(short=30, long=60):
        head, has_end = told(body)
        assert (head, has_end) == told(body, chunk_bytes)
    assert head.type or not has_end
    assert head.type or head == ImageHead(looks_like_text=head.looks_like_text)
    for image_type in ImageType:
        assert is_whole(image_type, body) in (False, True)


@settings(deadline=None)  # it decodes, on a machine that may be busy
@given(sample_bodies, st.data())
def test_a_damaged_image_raises_nothing(body: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, min(len(body) - 1, 700)))
    damaged = body[:position] + data.draw(st.binary(max_size=4)) + body[position + 2 :]
    assert told(damaged) == told(damaged, data.draw(st.integers(100, 5000)))
    for image_type in ImageType:
        assert is_whole(image_type, damaged) in (False, True)


@pytest.mark.parametrize(
    ("body", "looks_like_text"),
    [
        (b"", False),
        (b"<", True),
        (b" \r\n\t<!doctype html>", True),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", True),
        (b'{"error": "rate limited"}', True),
        (b"[]", True),
        (b" " * 70_000 + b"<html>", True),
        (b" " * 70_000, True),
        (b"Too many requests < 46", False),
        (saved(noise("P"), "GIF"), False),
        (saved(noise(), "BMP"), False),
        (saved(noise(), "TIFF"), False),
        (riff(part(b"fmt ", b"16 bytes of sound"), form=b"WAVE"), False),
        (PNG[:-1] + b"\r", False),
        (SOI + b"\0", False),
    ],
)
def test_what_is_no_image_of_ours_has_no_type(body: bytes, looks_like_text: bool) -> None:
    assert told(body) == told(body, 1) == (ImageHead(looks_like_text=looks_like_text), False)


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        SOI + frame() + SCAN + EOI,
        SOI + frame(code=0xC2) + SCAN + segment(0xC4) + SCAN + EOI,
        SOI + segment(0xC4) + segment(0xCC) + frame() + SCAN + EOI,
        SOI + segment(0xE1, THUMBNAIL) + frame() + SCAN + EOI,
        SOI + segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff") + frame() + SCAN + EOI,
        SOI + segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff") + frame() + SCAN + EOI,
        SOI + segment(0xED, b"Photoshop 3.0\0" + b"8BIM") + frame() + SCAN + EOI,
        SOI + b"\xff\xff" + frame() + b"\xff" + SCAN + b"\xff\xff" + EOI,
        SOI + frame() + SOS + b"\xff\0" * 99_999 + EOI,
        SOI + frame() + SOS + EOI,
        PNG + IHDR + IDAT + IEND,
        riff(lossy()),
        riff(lossy(width=WIDTH | 3 << 14)),
        riff(lossless()),
        riff(lossless()[:-1]),
        riff(lossless(), b"rest"),
        riff(EXTENDED, part(b"ALPH", b"odd"), lossy()),
        riff(EXTENDED, part(b"ANMF", b"frame")),
    ],
)
def test_a_valid_header_tells_the_pixels(body: bytes) -> None:
    head, has_end = told(body)
    assert (head, has_end) == told(body, 1)
    assert (head.size, has_end) == ((WIDTH, HEIGHT), True)
    assert not told(body[:-1])[1]


@pytest.mark.parametrize(
    "body",
    [
        SOI + EOI,
        SOI + frame() + EOI,
        SOI + b"\xff\xe0\xff\xff" + frame() + SCAN + EOI,
        SOI + frame(width=0) + SCAN + EOI,
        SOI + frame(0, 0) + SCAN + EOI,
        SOI + frame(height=0) + SCAN + segment(0xDC, b"\0\x2d") + EOI,
        SOI + segment(0xC0, b"\x08\0\x2d\0\x43") + SCAN + EOI,
        SOI + segment(0xC0) + SCAN + EOI,
        PNG + IDAT + IHDR + IEND,
        PNG + chunk(b"IHDR", header(), crc=7) + IDAT + IEND,
        PNG + chunk(b"IHDR", header(width=0)) + IDAT + IEND,
        PNG + chunk(b"IHDR", header(height=0)) + IDAT + IEND,
        PNG + chunk(b"IHDR", header() + b"\0") + IDAT + IEND,
        riff(),
        riff(part(b"EXIF", b"first"), lossy()),
        riff(lossy(tag=1)),
        riff(lossy(start=b"\x9d\x01\x2b")),
        riff(lossy(width=0)),
        riff(lossless(signature=0x2E)),
        riff(lossless(version=1)),
        riff(part(b"VP8 ", b"short")),
        riff(b"VP8X\x0a\0\0\0", bytes(9)),
        riff(b"VP8 \xff\xff\xff\xff" + lossy()[8:]),
        b"RIFF\0\0\0\0WEBP" + lossy(),
    ],
)
def test_a_header_that_is_none_tells_the_type_alone(body: bytes) -> None:
    head, _ = told(body)
    assert head == told(body, 1)[0] == ImageHead(head.type)
    assert head.type is not None


def test_a_webp_may_announce_more_than_ever_comes() -> None:
    assert told(b"RIFF\xff\xff\xff\xffWEBP" + lossy() + bytes(99))[1] is False


# --- how much is looked at ----------------------------------------------------------------------


def with_metadata(segments: int) -> bytes:
    body = SAMPLES["jpeg baseline"]
    return body[:2] + segment(0xE1, b"Exif" + bytes(65_000)) * segments + body[2:]


@pytest.mark.parametrize("segments", [1, 2, 64, 128])
@pytest.mark.parametrize("chunk_bytes", [16_384, 900_000, 1 << 24])
def test_metadata_before_the_frame_may_be_nearly_as_long_as_a_part(
    segments: int, chunk_bytes: int
) -> None:
    head, has_end = told(with_metadata(segments), chunk_bytes)
    assert (head.size, has_end) == ((WIDTH, HEIGHT), True)


@pytest.mark.parametrize("chunk_bytes", [1_000, 65_536, 900_000, 1 << 24])
def test_metadata_may_be_longer_than_a_part(chunk_bytes: int) -> None:
    body = with_metadata(400)
    assert len(body) > 2 * LONG_LOOK_BYTES
    head, has_end = told(body, chunk_bytes)
    assert (head.size, has_end) == ((WIDTH, HEIGHT), True)
    assert told(body[:-2], chunk_bytes)[1] is False


@pytest.mark.parametrize("after", [b"", b"\xff", b"none", segment(0xFE, b"") * (MAX_SEGMENTS + 1)])
def test_no_header_after_long_metadata_is_none(after: bytes) -> None:
    metadata = SOI + segment(0xE1, b"Exif" + bytes(65_000)) * 2
    assert told(metadata + after) == told(metadata + after, 777)
    assert told(metadata + after)[0].size is None


@pytest.mark.parametrize("chunk_bytes", [65_536, 900_000])
@pytest.mark.parametrize("start", [b"", SOI, SOI + frame() + SOS, with_metadata(3)])
def test_no_more_is_kept_of_either_end_than_a_part_and_a_chunk(
    start: bytes, chunk_bytes: int
) -> None:
    reader, zeros = ImageReader(), memoryview(bytes(chunk_bytes))
    reader.feed(start)
    for _ in range(2 * LONG_LOOK_BYTES // chunk_bytes):
        reader.feed(zeros)
        for kept in (reader._first, reader._last):
            assert sum(map(len, kept)) < LONG_LOOK_BYTES + max(chunk_bytes, len(start))
    assert not reader._first, "the head is read, or given up"


def test_a_head_that_is_read_is_not_kept() -> None:
    reader = fed(SAMPLES["jpeg baseline"] + bytes(SHORT_LOOK_BYTES), [])
    assert not reader._first


# --- cost ---------------------------------------------------------------------------------------


def calls_during(work: Callable[[], object]) -> int:
    """Count the Python and C functions that `work` calls: its cost, without a clock."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # what is called when garbage is collected is none of this work
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


HOSTILE: dict[str, tuple[bytes, bytes]] = {  # a beginning, and what is repeated after it
    "jpeg fill": (SOI, b"\xff"),
    "jpeg junk": (SOI + b"\xff\x01", b"\0"),
    "jpeg entropy": (SOI + frame() + SOS, b"entropy"),
    "jpeg standalone": (SOI, b"\xff\x01"),
    "jpeg empty segments": (SOI, segment(0xE0)),
    "jpeg small EXIF": (SOI, segment(0xE1, b"Exif\0\0II*\0")),
    "png empty chunks": (PNG + IHDR, chunk(b"IDAT")),
    "png texts": (PNG + IHDR, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))),
    "webp empty chunks": (b"RIFF\xff\xff\xff\xffWEBP" + EXTENDED, part(b"ANMF", b"")),
    "space": (b"", b" "),
    "text": (b"<", b" <"),
}


@pytest.mark.parametrize(("start", "repeated"), HOSTILE.values(), ids=HOSTILE.keys())
def test_the_work_is_bounded(start: bytes, repeated: bytes) -> None:
    body = start + repeated * (LONG_LOOK_BYTES // len(repeated))
    # Two looks; Pillow makes some ten calls of a read.
    assert calls_during(lambda: told(body, 1 << 20)) < 2 * 12 * MAX_HEADER_READS
    for image_type in ImageType:
        assert calls_during(partial(is_whole, image_type, body)) < 12 * MAX_CHUNK_READS


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (PNG + chunk(b"IHDR", header(100_000, 100_000)) + IDAT + IEND, (100_000, 100_000)),
        (SOI + frame(65_500, 65_500) + SCAN + EOI, (65_500, 65_500)),
        (riff(part(b"VP8X", b"\0\0\0\0" + b"\xff\xff\xff" * 2)), (1 << 24, 1 << 24)),
    ],
)
def test_many_pixels_are_only_a_number(
    body: bytes, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfold(_: object) -> None:
        raise AssertionError("pixels were asked for")

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", unfold)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", unfold)
    head, has_end = told(body)
    assert (head.size, has_end) == (size, True)
    assert head.type is not None
    is_small = head.type is not ImageType.JPEG
    assert is_whole(head.type, body) is is_small, "a JPEG is decoded, but not of so many pixels"


def test_no_more_pixels_are_decoded_than_memory_is_meant_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_DECODED_PIXELS >= 7680 * 4320
    monkeypatch.setattr(images, "MAX_DECODED_PIXELS", WIDTH * HEIGHT)
    assert is_whole(ImageType.JPEG, SAMPLES["jpeg progressive"])
    monkeypatch.setattr(images, "MAX_DECODED_PIXELS", WIDTH * HEIGHT - 1)
    assert not is_whole(ImageType.JPEG, SAMPLES["jpeg progressive"])


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image/jpeg", ImageType.JPEG),
        ("IMAGE/PNG", ImageType.PNG),
        (" image/webp", ImageType.WEBP),
        ("image/gif", None),
        ("jpeg", None),
        ("", None),
    ],
)
def test_type_of_a_media_type(text: str, expected: ImageType | None) -> None:
    assert image_type_of_file_type(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jpg", ImageType.JPEG),
        ("JPEG", ImageType.JPEG),
        (".png", ImageType.PNG),
        ("WebP", ImageType.WEBP),
        ("gif", None),
        ("image/png", None),
        ("", None),
    ],
)
def test_type_of_an_extension(text: str, expected: ImageType | None) -> None:
    assert image_type_of_extension(text) is expected


@pytest.mark.parametrize("image_type", list(ImageType))
def test_an_extension_leads_back_to_its_type(image_type: ImageType) -> None:
    assert image_type_of_extension(image_type.extension) is image_type
    assert image_type_of_file_type(image_type) is image_type
