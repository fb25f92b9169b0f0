"""What is asked about one wallpaper alone, and by whom."""

from __future__ import annotations

import pytest

from collector.core.errors import PayloadError
from collector.sources.wallhaven import WallhavenDetails

GUEST = WallhavenDetails("https://wallhaven.cc/api/v1")
KEYED = WallhavenDetails("https://wallhaven.cc/api/v1", "SECRETkey")


def test_the_key_travels_as_a_header_and_makes_us_no_guest() -> None:
    assert (GUEST.is_guest, KEYED.is_guest) == (True, False)
    guest, keyed = GUEST.details_request("94x38z"), KEYED.details_request("94x38z")
    assert guest.url == keyed.url == "https://wallhaven.cc/api/v1/w/94x38z"
    assert "X-API-Key" not in guest.headers
    assert keyed.headers["X-API-Key"] == "SECRETkey"
    assert "SECRETkey" not in repr(KEYED)


def test_an_answer_about_another_wallpaper_is_refused() -> None:
    body = b'{"data": {"id": "2169oy", "path": "https://w.wallhaven.cc/a.png"}}'
    with pytest.raises(PayloadError, match="not about 94x38z"):
        GUEST.parse_details(body, "94x38z")
