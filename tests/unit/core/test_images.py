"""What the image scanner says of whole, cut, broken and foreign bodies."""

from __future__ import annotations

import gc
import hashlib
import io
import re
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from collector.core.images import (
    ImageFacts,
    ImageScanner,
    ImageType,
    image_type_of_extension,
    image_type_of_file_type,
    jpeg,
)

WIDTH, HEIGHT = 67, 45
NOTHING = ImageFacts(None, None, None, complete=False, trailing_bytes=0, looks_like_html=False)


def noise(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    pixel_bytes = len(Image.new(mode, (1, 1)).tobytes())
    pixels = hashlib.shake_128(b"noise").digest(size[0] * size[1] * pixel_bytes)
    return Image.frombytes(mode, size, pixels)


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


def scan(body: bytes, chunk_bytes: int = 1 << 16) -> ImageFacts:
    return scan_cut(body, range(chunk_bytes, len(body), chunk_bytes))


def scan_cut(body: bytes, cuts: range | list[int]) -> ImageFacts:
    scanner = ImageScanner()
    for start, end in pairwise([0, *cuts, len(body)]):
        scanner.feed(memoryview(body)[start:end] if start % 2 else body[start:end])
    return scanner.facts()


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
def test_a_whole_image_has_the_facts_that_pillow_finds(body: bytes) -> None:
    with Image.open(io.BytesIO(body)) as image:
        image.load()
        expected = (f"image/{image.format}".lower(), *image.size)
    facts = scan(body)
    assert (facts.type, facts.width, facts.height) == expected
    assert facts == replace(facts, complete=True, trailing_bytes=0, looks_like_html=False)


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
def test_an_image_is_complete_at_its_last_byte_and_no_sooner(body: bytes) -> None:
    scanner = ImageScanner()
    for position in range(len(body)):
        assert not scanner.facts().complete, position
        scanner.feed(body[position : position + 1])
    assert scanner.facts() == scan(body)
    assert scanner.facts().complete


@given(sample_bodies, st.binary(max_size=20), st.data())
def test_the_facts_do_not_depend_on_where_chunks_end(
    body: bytes, trailing: bytes, data: st.DataObject
) -> None:
    body += trailing
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=30)))
    assert scan_cut(body, cuts) == scan(body)


@given(sample_bodies, st.data())
def test_a_prefix_is_never_complete(body: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(body) - 1))
    assert not scan(body[:length], data.draw(st.integers(1, 5000))).complete


@each_sample
@pytest.mark.parametrize("trailing", [b"\0", b"<html>", EOI * 9, SAMPLES["jpeg baseline"]])
def test_bytes_after_the_end_are_only_counted(body: bytes, trailing: bytes) -> None:
    assert scan(body + trailing, 999) == replace(scan(body), trailing_bytes=len(trailing))


# --- anything else ------------------------------------------------------------------------------

signatures = st.sampled_from([b"", SOI, SOI + frame() + SOS, PNG, PNG + IHDR, riff(lossy())[:12]])
pieces = st.one_of(
    st.binary(max_size=9),
    st.sampled_from([b"\xff", b"\0", EOI, SOS, frame(), segment(0xFE), IDAT, IEND, lossy()]),
)


@given(signatures, st.lists(pieces, max_size=12), st.integers(1, 40))
def test_no_bytes_raise_and_their_facts_do_not_depend_on_chunks(
    signature: bytes, rest: list[bytes], chunk_bytes: int
) -> None:
    body = signature + b"".join(rest)
    facts = scan(body)
    assert facts == scan(body, chunk_bytes)
    assert 0 <= facts.trailing_bytes < max(1, len(body))
    assert facts.complete or not facts.trailing_bytes
    assert facts.type or facts == replace(NOTHING, looks_like_html=facts.looks_like_html)


@given(sample_bodies, st.data())
def test_a_damaged_image_raises_nothing(body: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, min(len(body) - 1, 700)))
    damaged = body[:position] + data.draw(st.binary(max_size=4)) + body[position + 2 :]
    assert scan(damaged) == scan(damaged, data.draw(st.integers(1, 300)))


@pytest.mark.parametrize(
    ("body", "looks_like_html"),
    [
        (b"", False),
        (b"<", True),
        (b" \r\n\t<!doctype html>", True),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", True),
        (b'{"error": "rate limited"}', True),
        (b"[]", True),
        (b" " * 70_000 + b"<html>", True),
        (b" " * 70_000, False),
        (b"Too many requests < 46", False),
        (saved(noise("P"), "GIF"), False),
        (saved(noise(), "BMP"), False),
        (saved(noise(), "TIFF"), False),
        (riff(part(b"fmt ", b"16 bytes of sound"), form=b"WAVE"), False),
        (PNG[:-1] + b"\r", False),
        (SOI + b"\0", False),
    ],
)
def test_what_is_no_image_of_ours_has_no_type(body: bytes, looks_like_html: bool) -> None:
    assert scan(body) == scan(body, 1) == replace(NOTHING, looks_like_html=looks_like_html)


# --- rules of each format -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "height"),
    [
        (SOI + frame() + SCAN + EOI, HEIGHT),
        (SOI + frame(code=0xC2) + SCAN + segment(0xC4, EOI) + SCAN + EOI, HEIGHT),
        (SOI + frame(code=0xCF) + SCAN + EOI, HEIGHT),
        (SOI + frame(height=0) + SCAN + segment(0xDC, b"\0\x2d") + EOI, None),
        (SOI + segment(0xC4) + segment(0xC8) + segment(0xCC) + frame() + SCAN + EOI, HEIGHT),
        (SOI + segment(0xE1, THUMBNAIL) + frame() + SCAN + EOI, HEIGHT),
        (SOI + b"\xff\xff" + frame() + b"\xff" + SCAN + b"\xff\xff" + EOI, HEIGHT),
        (SOI + frame() + SOS + b"\xff\0" * 99_999 + EOI, HEIGHT),
        (SOI + frame() + SOS + b"\xff\xd0a\xff\xd7b\xff\xff\0\xff\0\xd9" + EOI, HEIGHT),
        (SOI + frame() + b"\xff\x01\xff\xd3" + SCAN + b"\xff\x01" + EOI, HEIGHT),
        (SOI + frame() + SOS + EOI, HEIGHT),
        (SOI + frame() + segment(0xDA, b"\1\1\0\0\x3f\xff") + b"\xd9entropy" + EOI, HEIGHT),
    ],
)
def test_jpeg_complete(body: bytes, height: int | None) -> None:
    expected = ImageFacts(ImageType.JPEG, WIDTH, height, True, 0, False)
    assert scan(body) == scan(body, 1) == expected
    assert not scan(body[:-1]).complete


@pytest.mark.parametrize(
    "body",
    [
        SOI + frame() + EOI,
        SOI + SCAN + frame() + EOI,
        SOI + EOI,
        SOI + b"\xff\xe0\0\1" + frame() + SCAN + EOI,
        SOI + b"\xff\xe0\0\0" + frame() + SCAN + EOI,
        SOI + frame() + b"\xff\xda\0\1entropy" + EOI,
        SOI + frame() + b"junk" + SCAN + EOI,
        SOI + frame() + b"\0" + SCAN[1:] + EOI,
        SOI + frame() + b"\xff\0" + SCAN + EOI,
        SOI + frame() + b"\xff\x02\0\2" + SCAN + EOI,
        SOI + frame() + SCAN + SOI + b"\0\2" + SCAN + EOI,
        SOI + frame() + frame() + SCAN + EOI,
        SOI + frame(width=0) + SCAN + EOI,
        SOI + frame(0, 0) + SCAN + EOI,
        SOI + segment(0xC0, b"\x08\0\x2d\0\x43") + SCAN + EOI,
        SOI + segment(0xC0) + SCAN + EOI,
        SOI + frame() + SCAN + b"\xff\xe0\xff\xff" + EOI,
    ],
)
def test_jpeg_never_complete(body: bytes) -> None:
    facts = scan(body + EOI * 50)
    assert facts == scan(body + EOI * 50, 1)
    assert facts.type is ImageType.JPEG
    assert not facts.complete


@pytest.mark.parametrize(
    "body",
    [
        PNG + IDAT + IHDR + IEND,
        PNG + IHDR + IEND,
        PNG + chunk(b"IHDR", header(), crc=7) + IDAT + IEND,
        PNG + chunk(b"IHDR", header(width=0)) + IDAT + IEND,
        PNG + chunk(b"IHDR", header(height=0)) + IDAT + IEND,
        PNG + chunk(b"IHDR", header(width=2**31)) + IDAT + IEND,
        PNG + chunk(b"IHDR", header() + b"\0") + IDAT + IEND,
        PNG + IHDR + IDAT + chunk(b"IEND", b"x"),
        PNG + IHDR + IDAT + b"\0" + IEND,
        PNG + IHDR + IDAT + b"\x7f\xff\xff\xfftEXt" + IEND,
        PNG + IHDR + IDAT + chunk(b"1234") + IEND,
    ],
)
def test_png_never_complete(body: bytes) -> None:
    facts = scan(body + IEND * 50)
    assert facts == scan(body + IEND * 50, 1)
    assert facts.type is ImageType.PNG
    assert not facts.complete


@pytest.mark.parametrize(("length", "complete"), [(2**31 - 1, True), (2**31, False)])
def test_png_takes_the_longest_chunk_and_none_longer(length: int, complete: bool) -> None:
    scanner = ImageScanner()
    scanner.feed(PNG + IHDR + IDAT + struct.pack(">I", length) + b"tEXt")
    zeros = bytes(1 << 24)
    for start in range(0, length, len(zeros)):
        scanner.feed(memoryview(zeros)[: length - start])
    scanner.feed(b"CRC." + IEND)
    assert scanner.facts().complete is complete


def test_png_keeps_no_dimensions_that_its_checksum_denies() -> None:
    facts = scan(PNG + chunk(b"IHDR", header(), crc=7))
    assert facts == replace(NOTHING, type=ImageType.PNG)


@pytest.mark.parametrize(
    "body",
    [
        riff(lossy()),
        riff(lossy(width=WIDTH | 3 << 14)),
        riff(lossless()),
        riff(lossless()[:-1]),
        riff(lossless(), b"rest"),
        riff(EXTENDED, part(b"ALPH", b"odd"), lossy()),
        riff(EXTENDED, part(b"ANMF", b"frame")),
    ],
)
def test_webp_complete(body: bytes) -> None:
    expected = ImageFacts(ImageType.WEBP, WIDTH, HEIGHT, True, 0, False)
    assert scan(body) == scan(body, 1) == expected
    assert not scan(body[:-1]).complete


@pytest.mark.parametrize(
    "body",
    [
        riff(),
        riff(EXTENDED),
        riff(part(b"EXIF", b"first"), lossy()),
        riff(lossy(tag=1)),
        riff(lossy(start=b"\x9d\x01\x2b")),
        riff(lossy(width=0)),
        riff(lossless(signature=0x2E)),
        riff(lossless(version=1)),
        riff(part(b"VP8 ", b"short")),
        riff(b"VP8L\4\0\0\0" + lossless()[8:]),
        riff(EXTENDED, lossy()[:-1]),
        riff(EXTENDED, b"VP8 \xff\xff\xff\xff"),
        b"RIFF\0\0\0\0WEBP" + lossy(),
        b"RIFF\xff\xff\xff\xffWEBP" + lossy(),
    ],
)
def test_webp_never_complete(body: bytes) -> None:
    facts = scan(body + bytes(99))
    assert facts == scan(body + bytes(99), 1)
    assert facts.type is ImageType.WEBP
    assert not facts.complete


# --- cost ---------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[bytes, bytes]] = {  # a beginning, and what is repeated after it
    "jpeg fill": (SOI, b"\xff"),
    "jpeg entropy": (SOI + frame() + SOS, b"entropy"),
    "jpeg entropy fill": (SOI + frame() + SOS, b"\xff"),
    "jpeg stuffing": (SOI + frame() + SOS, b"\xff\0"),
    "jpeg standalone": (SOI, b"\xff\x01"),
    "jpeg empty segments": (SOI, segment(0xE0)),
    "jpeg scans": (SOI + frame(), SOS),
    "png empty chunks": (PNG + IHDR, chunk(b"IDAT")),
    "png long chunk": (PNG + IHDR + b"\x7f\xff\xff\xffIDAT", b"\xff"),
    "webp empty chunks": (b"RIFF\xff\xff\xff\xffWEBP" + EXTENDED, part(b"ANMF", b"")),
    "webp long chunk": (b"RIFF\xff\xff\xff\xffWEBP" + EXTENDED + b"ANMF\0\0\0\xf0", b"\0"),
    "space": (b"", b" "),
    "text": (b"<", b" <"),
}
each_hostile = pytest.mark.parametrize(("start", "repeated"), HOSTILE.values(), ids=HOSTILE.keys())


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


@each_hostile
def test_the_work_is_linear(start: bytes, repeated: bytes) -> None:
    bodies = (start + repeated * (size // len(repeated)) for size in (1 << 15, 1 << 16))
    once, twice = (calls_during(partial(scan, body, 4096)) for body in bodies)
    assert twice <= 2.1 * once + 50
    assert twice < 20 * (1 << 16)


@pytest.mark.parametrize("name", ["jpeg fill", "jpeg entropy", "jpeg stuffing", "png long chunk"])
def test_a_chunk_of_data_costs_the_same_at_any_size(name: str) -> None:
    start, repeated = HOSTILE[name]
    small, large = (start + repeated * count for count in (100, 100_000))
    once, again = (calls_during(partial(scan, body, 1 << 20)) for body in (small, large))
    assert once == again


@each_hostile
def test_chunks_are_neither_joined_nor_kept(start: bytes, repeated: bytes) -> None:
    body = bytearray(start + repeated * ((1 << 18) // len(repeated)))
    scanner = ImageScanner()
    view = memoryview(body)
    pieces = [view[i : i + 65_536] for i in range(0, len(body), 65_536)]
    tracemalloc.start()
    try:
        for piece in pieces:
            scanner.feed(piece)
            piece.release()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8192
    view.release()
    body.clear()  # BufferError, if any view of it were still alive


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


# 0xFF and what may stand behind it come often, anything else now and then.
scan_bytes = st.lists(
    st.one_of(
        st.sampled_from([0x00, 0x0A, 0xCF, 0xD0, 0xD7, 0xD8, 0xD9, 0xFF]), st.integers(0, 255)
    )
).map(bytes)


@given(body=scan_bytes, position=st.integers(0, 40))
def test_the_end_of_a_scan_is_where_the_standard_librarys_search_finds_it(
    body: bytes, position: int
) -> None:
    expected = re.compile(jpeg._END_OF_SCAN.pattern).search(body, position)

    for text in (body, memoryview(body)):
        found = jpeg._END_OF_SCAN.search(text, position)
        assert (found and found.span()) == (expected and expected.span())
