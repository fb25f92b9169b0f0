"""A body that does not match its row fails with the code that says why."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from collector.core.errors import Code, Edge, Fault, ItemError
from collector.core.image_validation import (
    MIN_BYTES_PER_SECOND,
    THROUGHPUT_WINDOW_SECONDS,
    Throughput,
    Validator,
)
from collector.core.images import ImageType

WIDTH, HEIGHT = 40, 30
MAX_BYTES = 1_000_000
HTML = b"<!DOCTYPE html><title>It broke</title>"


@cache
def image(image_type: ImageType = ImageType.JPEG) -> bytes:
    body = io.BytesIO()
    pixels = hashlib.shake_128(b"pixels").digest(WIDTH * HEIGHT * 3)
    Image.frombytes("RGB", (WIDTH, HEIGHT), pixels).save(body, image_type.name)
    return body.getvalue()


def validator(body: bytes = b"", expected: ImageType = ImageType.JPEG, **changes: Any) -> Validator:
    options: dict[str, Any] = {
        "file_size": len(body or image()),
        "dimensions": (WIDTH, HEIGHT),
        "max_bytes": MAX_BYTES,
    }
    return Validator(expected, **(options | changes))


def validate(
    body: bytes, on: Validator | None = None, *, chunk_bytes: int = 1000, **headers: str
) -> bytes:
    """Show the validator an answer of status 200 with `body`."""
    on = on or validator(body)
    on.check_head(200, {name.replace("_", "-"): value for name, value in headers.items()})
    for start in range(0, len(body), chunk_bytes):
        on.feed(body[start : start + chunk_bytes])
    return on.validate()


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
    error = failure(lambda: validator().check_head(status, {"Content-Type": "image/jpeg"}))
    assert (error.code, error.fault, error.reason) == (expected, fault, f"HTTP {status}")
    assert error.retry_after_seconds is None


@given(st.integers(100, 999).filter(lambda status: status != 200))
def test_no_other_status_passes(status: int) -> None:
    failure(lambda: validator().check_head(status, {}))


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        *(("7", 7.0), ("0", 0.0)),
        *((text, None) for text in ("", "soon", "-5", "nan", "1e9", "\u0667", "\u00b2")),
    ],
)
def test_retry_after_is_handed_on(retry_after: str, seconds: float | None) -> None:
    error = failure(lambda: validator().check_head(503, {"Retry-After": retry_after}))
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize("header", ["Retry-After", "Content-Length"])
def test_a_number_of_thousands_of_digits_is_no_defect(header: str) -> None:
    error = failure(lambda: validator().check_head(503, {header: "9" * 5000}))
    assert error.code is Code.SOURCE_ERROR


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "identity, gzip"])
def test_an_encoded_body_is_refused(encoding: str) -> None:
    head = {"Content-Encoding": encoding}
    assert code(lambda: validator().check_head(200, head)) == (Code.SOURCE_ERROR, Fault.TRANSIENT)


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_identity_is_no_encoding(encoding: str) -> None:
    validator().check_head(200, {"Content-Encoding": encoding})


@pytest.mark.parametrize("media_type", ["text/html", "Text/HTML; charset=utf-8"])
def test_a_page_is_seen_by_its_type(media_type: str) -> None:
    head = {"Content-Type": media_type}
    assert code(lambda: validator().check_head(200, head)) == (Code.HTML_RESPONSE, Fault.TRANSIENT)


@pytest.mark.parametrize(
    "length", [str(MAX_BYTES + 1), "9" * 18, "9" * 5000], ids=lambda text: f"{len(text)} digits"
)
def test_too_large_as_announced(length: str) -> None:
    head = {"Content-Length": length}
    for file_size in (None, 2 * MAX_BYTES):
        too_large = validator(file_size=file_size)
        error = failure(partial(too_large.check_head, 200, head))
        assert (error.code, error.fault) == (Code.TOO_LARGE, Fault.PERMANENT)
        assert "COLLECTOR_MAX_IMAGE_BYTES" in error.reason


def test_more_announced_than_the_row_says() -> None:
    head = {"Content-Length": str(len(image()) + 1)}
    expected = (Code.SIZE_MISMATCH, Fault.TRANSIENT)
    assert code(lambda: validator().check_head(200, head)) == expected


@pytest.mark.parametrize("length", ["", "x", "-1", "1.5", "\u0661", "+5"])
def test_a_length_that_is_no_number_announces_nothing(length: str) -> None:
    assert validate(image(), Content_Length=length)


# --- Its body -----------------------------------------------------------------------------------


@given(st.sampled_from(ImageType), st.lists(st.integers(0, 5000), max_size=8))
def test_a_good_body_gives_its_sha256_however_it_is_cut(
    image_type: ImageType, cuts: list[int]
) -> None:
    body = image(image_type)
    on = validator(body, image_type)
    on.check_head(200, {"Content-Length": str(len(body)), "Content-Type": image_type})
    borders = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for number, (start, end) in enumerate(pairwise(borders)):
        on.feed(memoryview(body)[start:end] if number % 2 else body[start:end])
    assert on.validate() == hashlib.sha256(body).digest()
    assert on.size_bytes == len(body)


@pytest.mark.parametrize("image_type", ImageType)
def test_a_row_that_knows_nothing_more_takes_any_whole_image(image_type: ImageType) -> None:
    body = image(image_type)
    on = validator(body, image_type, file_size=None, dimensions=(None, None))
    assert validate(body, on) == hashlib.sha256(body).digest()


BAD_BODIES: Mapping[str, tuple[bytes, Code, Fault]] = {
    "empty": (b"", Code.EMPTY, Fault.TRANSIENT),
    "page": (HTML, Code.HTML_RESPONSE, Fault.TRANSIENT),
    "json": (b' {"error": "Nothing here"}', Code.HTML_RESPONSE, Fault.TRANSIENT),
    "garbage": (bytes(500), Code.MAGIC_MISMATCH, Fault.TRANSIENT),
    "gif": (b"GIF89a" + bytes(500), Code.MAGIC_MISMATCH, Fault.TRANSIENT),
    "png": (image(ImageType.PNG), Code.TYPE_MISMATCH, Fault.PERMANENT),
    "webp": (image(ImageType.WEBP), Code.TYPE_MISMATCH, Fault.PERMANENT),
    "cut png": (image(ImageType.PNG)[:-9], Code.TYPE_MISMATCH, Fault.PERMANENT),
    "cut": (image()[:-1], Code.TRUNCATED, Fault.TRANSIENT),
    "cut in half": (image()[: len(image()) // 2], Code.TRUNCATED, Fault.TRANSIENT),
    "magic only": (image()[:3] + bytes(500), Code.TRUNCATED, Fault.TRANSIENT),
    "one byte": (b"\xff", Code.MAGIC_MISMATCH, Fault.TRANSIENT),
}


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body(name: str, chunk_bytes: int) -> None:
    body, expected, fault = BAD_BODIES[name]
    assert code(lambda: validate(body, validator(body), chunk_bytes=chunk_bytes)) == (
        expected,
        fault,
    )


@given(st.sampled_from(sorted(BAD_BODIES)), st.booleans(), st.integers(1, 3000))
def test_a_bad_body_is_never_stored_whatever_the_row_knows(
    name: str, knows_nothing: bool, chunk_bytes: int
) -> None:
    body, expected, _ = BAD_BODIES[name]
    changes = {"file_size": None, "dimensions": (None, None)} if knows_nothing else {}
    found = failure(lambda: validate(body, validator(body, **changes), chunk_bytes=chunk_bytes))
    assert found.code is expected


@given(st.sampled_from(ImageType), st.data())
def test_no_cut_of_an_image_is_an_image(image_type: ImageType, data: st.DataObject) -> None:
    whole = image(image_type)
    body = whole[: data.draw(st.integers(0, len(whole) - 1))]
    on = validator(body, image_type, file_size=None, dimensions=(None, None))
    failure(lambda: validate(body, on))


def test_more_bytes_than_the_row_says_stop_at_once() -> None:
    on = validator(file_size=100)
    on.check_head(200, {})
    on.feed(image()[:100])
    error = failure(lambda: on.feed(b"!"))
    assert error.code is Code.SIZE_MISMATCH
    assert error.reason == "at least 101 bytes, the row says 100"


def test_too_large_without_a_word_before() -> None:
    on = validator(file_size=None, max_bytes=100)
    on.check_head(200, {})
    on.feed(image()[:100])
    assert code(lambda: on.feed(b"!")) == (Code.TOO_LARGE, Fault.PERMANENT)


def test_as_large_as_allowed() -> None:
    assert validate(image(), validator(max_bytes=len(image())))


@pytest.mark.parametrize("more", [1, 2, 10_000])
def test_fewer_bytes_than_the_row_says(more: int) -> None:
    on = validator(file_size=len(image()) + more)
    assert code(lambda: validate(image(), on)) == (Code.SIZE_MISMATCH, Fault.TRANSIENT)


def test_one_byte_behind_the_image() -> None:
    assert failure(lambda: validate(image() + b"!", validator())).code is Code.SIZE_MISMATCH


@pytest.mark.parametrize("difference", [-1, 1])
def test_another_length_than_announced(difference: int) -> None:
    on = validator(file_size=None)
    length = str(len(image()) + difference)
    expected = (Code.LENGTH_MISMATCH, Fault.TRANSIENT)
    assert code(lambda: validate(image(), on, Content_Length=length)) == expected


@pytest.mark.parametrize("dimensions", [(41, 30), (40, 31), (30, 40), (None, 31), (41, None)])
def test_other_dimensions(dimensions: tuple[int | None, int | None]) -> None:
    on = validator(dimensions=dimensions)
    expected = (Code.DIMENSION_MISMATCH, Fault.TRANSIENT)
    assert code(lambda: validate(image(), on)) == expected


@pytest.mark.parametrize("dimensions", [(None, None), (40, None), (None, 30), (40, 30)])
def test_unknown_dimensions(dimensions: tuple[int | None, int | None]) -> None:
    assert validate(image(), validator(dimensions=dimensions))


def test_an_image_that_leaves_its_height_open_is_refused() -> None:
    body = image()
    frame = body.index(b"\xff\xc0")
    open_height = body[: frame + 5] + b"\0\0" + body[frame + 7 :]
    error = failure(lambda: validate(open_height, validator(open_height)))
    assert (error.code, error.reason) == (
        Code.TRUNCATED,
        f"no valid header in {len(open_height)} bytes",
    )


@pytest.mark.parametrize("file_size", ["known", None])
@pytest.mark.parametrize("image_type", ImageType)
def test_bytes_after_the_end_are_part_of_the_body(
    image_type: ImageType, file_size: str | None
) -> None:
    body = image(image_type) + HTML
    on = validator(body, image_type, **({} if file_size else {"file_size": None}))
    assert validate(body, on) == hashlib.sha256(body).digest()


def test_a_prefix_that_ends_in_an_end_marker_is_found_out_by_size_or_by_decoding() -> None:
    whole = progressive_with_a_comment(b"\xff\xd9")
    cut = whole[: whole.rindex(b"\xff\xd9", 0, -1) + 2]
    assert validate(whole, validator(whole)) == hashlib.sha256(whole).digest()
    sized, unsized = validator(whole), validator(whole, file_size=None)
    assert code(lambda: validate(cut, sized)) == (Code.SIZE_MISMATCH, Fault.TRANSIENT)
    error = failure(lambda: validate(cut, unsized))
    assert (error.code, error.reason) == (
        Code.TRUNCATED,
        "the image could not be read to its end",
    )


def progressive_with_a_comment(comment: bytes) -> bytes:
    """Return a JPEG with a comment before its last scan."""
    body = io.BytesIO()
    Image.effect_noise((WIDTH, HEIGHT), 90).save(body, "JPEG", progressive=True)
    scans, start, last = body.getvalue().rpartition(b"\xff\xda")
    return scans + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + start + last


def test_only_what_is_decoded_is_slow() -> None:
    assert not validator().is_slow
    assert validator(file_size=None).is_slow


# --- A body that drips --------------------------------------------------------------------------


def test_a_byte_now_and_then_is_given_up_after_a_window() -> None:
    throughput = Throughput()
    for _ in range(int(THROUGHPUT_WINDOW_SECONDS / 0.5) - 1):
        throughput.note(1, 0.5)
    error = failure(lambda: throughput.note(1, 0.5))
    assert (error.code, error.fault) == (Code.SOURCE_ERROR, Fault.TRANSIENT)
    assert error.reason == "2 bytes a second for 20 s"


def test_a_body_that_begins_fast_and_then_drips_is_given_up_too() -> None:
    throughput = Throughput()
    throughput.note(10_000_000, THROUGHPUT_WINDOW_SECONDS)
    failure(lambda: throughput.note(1, THROUGHPUT_WINDOW_SECONDS))


@pytest.mark.parametrize("seconds", [0.1, 1.0, 19.0, 25.0])
def test_a_slow_line_is_waited_for(seconds: float) -> None:
    throughput = Throughput()
    for _ in range(1000):
        throughput.note(int(MIN_BYTES_PER_SECOND * seconds) + 1, seconds)


def test_what_comes_at_once_costs_no_time() -> None:
    throughput = Throughput()
    for _ in range(1_000_000):
        throughput.note(1, 0.0)
