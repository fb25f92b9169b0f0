"""The judge: a body is exactly what its row says, or it fails with the code that says why."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from collector.core.errors import Code, Edge, Fault, ItemError
from collector.core.images import ImageType
from collector.core.judge import Judge

WIDTH, HEIGHT = 40, 30
MAX_BYTES = 1_000_000
HTML = b"<!DOCTYPE html><title>It broke</title>"


@cache
def picture(image_type: ImageType = ImageType.JPEG) -> bytes:
    body = io.BytesIO()
    pixels = hashlib.shake_128(b"pixels").digest(WIDTH * HEIGHT * 3)
    Image.frombytes("RGB", (WIDTH, HEIGHT), pixels).save(body, image_type.name)
    return body.getvalue()


def judge(body: bytes = b"", expected: ImageType = ImageType.JPEG, **changes: Any) -> Judge:
    options: dict[str, Any] = {
        "file_size": len(body or picture()),
        "dimensions": (WIDTH, HEIGHT),
        "max_bytes": MAX_BYTES,
    }
    return Judge(expected, **(options | changes))


def verdict(
    body: bytes, on: Judge | None = None, *, chunk_bytes: int = 1000, **headers: str
) -> bytes:
    """Show the judge an answer of status 200 with `body`."""
    on = on or judge(body)
    on.check_head(200, {name.replace("_", "-"): value for name, value in headers.items()})
    for start in range(0, len(body), chunk_bytes):
        on.feed(body[start : start + chunk_bytes])
    return on.verdict()


def failure(call: Callable[[], object]) -> ItemError:
    with pytest.raises(ItemError) as caught:
        call()
    assert caught.value.edge is Edge.DOWNLOAD
    assert caught.value.reason
    return caught.value


def code(call: Callable[[], object]) -> tuple[Code, Fault]:
    error = failure(call)
    return error.code, error.fault


# --- The answer's head --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected", "fault"),
    [
        (401, Code.FORBIDDEN, Fault.TRANSIENT),
        (403, Code.FORBIDDEN, Fault.TRANSIENT),
        (404, Code.NOT_FOUND, Fault.TRANSIENT),
        (410, Code.GONE, Fault.PERMANENT),
        (451, Code.GONE, Fault.PERMANENT),
        (301, Code.REDIRECT_REFUSED, Fault.PERMANENT),
        (302, Code.REDIRECT_REFUSED, Fault.PERMANENT),
        (307, Code.REDIRECT_REFUSED, Fault.PERMANENT),
        (308, Code.REDIRECT_REFUSED, Fault.PERMANENT),
        (201, Code.SOURCE_ERROR, Fault.TRANSIENT),
        (203, Code.SOURCE_ERROR, Fault.TRANSIENT),
        (204, Code.SOURCE_ERROR, Fault.TRANSIENT),
        (206, Code.SOURCE_ERROR, Fault.TRANSIENT),
        (429, Code.SOURCE_ERROR, Fault.TRANSIENT),
        (500, Code.SOURCE_ERROR, Fault.TRANSIENT),
        (503, Code.SOURCE_ERROR, Fault.TRANSIENT),
        (522, Code.SOURCE_ERROR, Fault.TRANSIENT),
    ],
)
def test_only_200_is_an_image(status: int, expected: Code, fault: Fault) -> None:
    error = failure(lambda: judge().check_head(status, {"Content-Type": "image/jpeg"}))
    assert (error.code, error.fault, error.reason) == (expected, fault, f"HTTP {status}")
    assert error.retry_after_seconds is None


@given(st.integers(100, 999).filter(lambda status: status != 200))
def test_no_other_status_passes(status: int) -> None:
    failure(lambda: judge().check_head(status, {}))


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        *(("7", 7.0), ("0", 0.0)),
        *((text, None) for text in ("", "soon", "-5", "nan", "1e9", "\u0667", "\u00b2")),
    ],
)
def test_retry_after_is_handed_on(retry_after: str, seconds: float | None) -> None:
    error = failure(lambda: judge().check_head(503, {"Retry-After": retry_after}))
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize("header", ["Retry-After", "Content-Length"])
def test_a_number_of_thousands_of_digits_is_no_defect(header: str) -> None:
    error = failure(lambda: judge().check_head(503, {header: "9" * 5000}))
    assert error.code is Code.SOURCE_ERROR


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "identity, gzip"])
def test_an_encoded_body_is_refused(encoding: str) -> None:
    head = {"Content-Encoding": encoding}
    assert code(lambda: judge().check_head(200, head)) == (Code.SOURCE_ERROR, Fault.TRANSIENT)


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_identity_is_no_encoding(encoding: str) -> None:
    judge().check_head(200, {"Content-Encoding": encoding})


@pytest.mark.parametrize("media_type", ["text/html", "Text/HTML; charset=utf-8"])
def test_a_page_is_seen_by_its_type(media_type: str) -> None:
    head = {"Content-Type": media_type}
    assert code(lambda: judge().check_head(200, head)) == (Code.HTML_RESPONSE, Fault.TRANSIENT)


@pytest.mark.parametrize(
    "length", [str(MAX_BYTES + 1), "9" * 18, "9" * 5000], ids=lambda text: f"{len(text)} digits"
)
def test_too_large_as_announced(length: str) -> None:
    head = {"Content-Length": length}
    too_large = judge(file_size=None)
    assert code(lambda: too_large.check_head(200, head)) == (Code.TOO_LARGE, Fault.PERMANENT)


def test_more_announced_than_the_row_says() -> None:
    head = {"Content-Length": str(len(picture()) + 1)}
    expected = (Code.SIZE_MISMATCH, Fault.TRANSIENT)
    assert code(lambda: judge().check_head(200, head)) == expected


@pytest.mark.parametrize("length", ["", "x", "-1", "1.5", "\u0661", "+5"])
def test_a_length_that_is_no_number_announces_nothing(length: str) -> None:
    assert verdict(picture(), Content_Length=length)


# --- Its body -----------------------------------------------------------------------------------


@given(st.sampled_from(ImageType), st.lists(st.integers(0, 5000), max_size=8))
def test_a_good_body_gives_its_sha256_however_it_is_cut(
    image_type: ImageType, cuts: list[int]
) -> None:
    body = picture(image_type)
    on = judge(body, image_type)
    on.check_head(200, {"Content-Length": str(len(body)), "Content-Type": image_type})
    borders = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for number, (start, end) in enumerate(pairwise(borders)):
        on.feed(memoryview(body)[start:end] if number % 2 else body[start:end])
    assert on.verdict() == hashlib.sha256(body).digest()
    assert on.size_bytes == len(body)


@pytest.mark.parametrize("image_type", ImageType)
def test_a_row_that_knows_nothing_more_takes_any_whole_image(image_type: ImageType) -> None:
    body = picture(image_type)
    on = judge(body, image_type, file_size=None, dimensions=(None, None))
    assert verdict(body, on) == hashlib.sha256(body).digest()


BAD_BODIES: Mapping[str, tuple[bytes, Code, Fault]] = {
    "empty": (b"", Code.EMPTY, Fault.TRANSIENT),
    "page": (HTML, Code.HTML_RESPONSE, Fault.TRANSIENT),
    "json": (b' {"error": "Nothing here"}', Code.HTML_RESPONSE, Fault.TRANSIENT),
    "garbage": (bytes(500), Code.MAGIC_MISMATCH, Fault.TRANSIENT),
    "gif": (b"GIF89a" + bytes(500), Code.MAGIC_MISMATCH, Fault.TRANSIENT),
    "png": (picture(ImageType.PNG), Code.TYPE_MISMATCH, Fault.PERMANENT),
    "webp": (picture(ImageType.WEBP), Code.TYPE_MISMATCH, Fault.PERMANENT),
    "cut png": (picture(ImageType.PNG)[:-9], Code.TYPE_MISMATCH, Fault.PERMANENT),
    "cut": (picture()[:-1], Code.TRUNCATED, Fault.TRANSIENT),
    "cut in half": (picture()[: len(picture()) // 2], Code.TRUNCATED, Fault.TRANSIENT),
    "magic only": (picture()[:3] + bytes(500), Code.TRUNCATED, Fault.TRANSIENT),
    "one byte": (b"\xff", Code.MAGIC_MISMATCH, Fault.TRANSIENT),
}


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body(name: str, chunk_bytes: int) -> None:
    body, expected, fault = BAD_BODIES[name]
    assert code(lambda: verdict(body, judge(body), chunk_bytes=chunk_bytes)) == (expected, fault)


@given(st.sampled_from(sorted(BAD_BODIES)), st.booleans(), st.integers(1, 3000))
def test_a_bad_body_is_never_stored_whatever_the_row_knows(
    name: str, knows_nothing: bool, chunk_bytes: int
) -> None:
    body, expected, _ = BAD_BODIES[name]
    changes = {"file_size": None, "dimensions": (None, None)} if knows_nothing else {}
    found = failure(lambda: verdict(body, judge(body, **changes), chunk_bytes=chunk_bytes))
    assert found.code is expected


@given(st.sampled_from(ImageType), st.data())
def test_no_cut_of_an_image_is_an_image(image_type: ImageType, data: st.DataObject) -> None:
    whole = picture(image_type)
    body = whole[: data.draw(st.integers(0, len(whole) - 1))]
    on = judge(body, image_type, file_size=None, dimensions=(None, None))
    failure(lambda: verdict(body, on))


def test_more_bytes_than_the_row_says_stop_at_once() -> None:
    on = judge(file_size=100)
    on.check_head(200, {})
    on.feed(picture()[:100])
    error = failure(lambda: on.feed(b"!"))
    assert error.code is Code.SIZE_MISMATCH
    assert error.reason == "at least 101 bytes, the row says 100"


def test_too_large_without_a_word_before() -> None:
    on = judge(file_size=None, max_bytes=100)
    on.check_head(200, {})
    on.feed(picture()[:100])
    assert code(lambda: on.feed(b"!")) == (Code.TOO_LARGE, Fault.PERMANENT)


def test_as_large_as_allowed() -> None:
    assert verdict(picture(), judge(max_bytes=len(picture())))


@pytest.mark.parametrize("more", [1, 2, 10_000])
def test_fewer_bytes_than_the_row_says(more: int) -> None:
    on = judge(file_size=len(picture()) + more)
    assert code(lambda: verdict(picture(), on)) == (Code.SIZE_MISMATCH, Fault.TRANSIENT)


def test_one_byte_behind_the_image() -> None:
    assert failure(lambda: verdict(picture() + b"!", judge())).code is Code.SIZE_MISMATCH


@pytest.mark.parametrize("difference", [-1, 1])
def test_another_length_than_announced(difference: int) -> None:
    on = judge(file_size=None)
    length = str(len(picture()) + difference)
    expected = (Code.LENGTH_MISMATCH, Fault.TRANSIENT)
    assert code(lambda: verdict(picture(), on, Content_Length=length)) == expected


@pytest.mark.parametrize("dimensions", [(41, 30), (40, 31), (30, 40), (None, 31), (41, None)])
def test_other_dimensions(dimensions: tuple[int | None, int | None]) -> None:
    on = judge(dimensions=dimensions)
    expected = (Code.DIMENSION_MISMATCH, Fault.TRANSIENT)
    assert code(lambda: verdict(picture(), on)) == expected


@pytest.mark.parametrize("dimensions", [(None, None), (40, None), (None, 30), (40, 30)])
def test_unknown_dimensions(dimensions: tuple[int | None, int | None]) -> None:
    assert verdict(picture(), judge(dimensions=dimensions))


def test_an_image_that_leaves_its_height_open() -> None:
    body = picture()
    frame = body.index(b"\xff\xc0")
    open_height = body[: frame + 5] + b"\0\0" + body[frame + 7 :]
    assert verdict(open_height, judge(open_height)) == hashlib.sha256(open_height).digest()
