"""Addresses of the site's pages stand for the list that a browser shows there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.settings import Settings
from collector.sources.wallhaven import CollectionName, Query, QueryError
from collector.sources.wallhaven.links import parse_link

SITE = "https://wallhaven.cc"


def question(address: str) -> Query | CollectionName:
    """Return what is mirrored, as the settings see it."""
    changes = {f"wallhaven_{name}": value for name, value in parse_link(address).items()}
    return Settings(**changes).question


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/search?q=nature", Query("nature")),
        ("/search?q=%2Bnature%20-anime&page=3", Query("+nature -anime")),
        ("/search", Query("*")),
        ("/search?q=&categories=010&order=asc", Query("*", categories="010", order="asc")),
        (
            "/search?q=elf&atleast=1920x1080&ratios=16x9%2C16x10&colors=660000&ai_art_filter=1",
            Query(
                "elf", atleast="1920x1080", ratios="16x9,16x10", colors="660000", ai_art_filter="1"
            ),
        ),
        ("/search?sorting=random&seed=abc123", Query("*", sorting="random")),
        ("/latest", Query("*")),
        ("/toplist?topRange=3M", Query("*", sorting="toplist", top_range="3M")),
        ("/toplist?sorting=views", Query("*", sorting="views")),
        ("/random", Query("*", sorting="random")),
        ("/user/someone", Query("@someone")),
        ("/user/someone/", Query("@someone")),
        ("/user/some%C3%A9/uploads?purity=110", Query("@some\u00e9", purity="110")),
        ("/tag/37", Query("id:37")),
        ("/user/someone/favorites/15?purity=110", CollectionName("someone", 15)),
    ],
)
def test_a_list_of_the_site_becomes_the_question(path: str, wanted: Query | CollectionName) -> None:
    assert question(SITE + path) == wanted


@pytest.mark.parametrize("host", ["wallhaven.cc", "www.wallhaven.cc", "http://WALLHAVEN.cc"])
def test_the_address_may_be_typed_shorter(host: str) -> None:
    assert question(f"{host}/tag/37") == Query("id:37")


def test_filters_of_the_environment_do_not_narrow_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WALLHAVEN_ATLEAST", "1920x1080")
    monkeypatch.setenv("WALLHAVEN_COLLECTION", "someone/15")
    assert question(f"{SITE}/search?q=nature") == Query("nature")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nature",
        "https://example.org/search?q=nature",
        "https://wallhaven.cc@example.org/search",
        "https://wallhaven.cc:443/search",
        "ftp://wallhaven.cc/search",
        "https://[",
        f"{SITE}/",
        f"{SITE}/hot",
        f"{SITE}/w/2169oy",
        f"{SITE}/user/someone/favorites",
        f"{SITE}/user/someone/favorites/abc",
        f"{SITE}/search?q=nature&apikey=secret",
        f"{SITE}/search?" + "&".join(f"a{n}=1" for n in range(60)),
    ],
)
def test_anything_else_is_refused_in_one_line_without_its_values(address: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_link(address)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    for address in (text, f"{SITE}/{text}", f"{SITE}/search?{text}"):
        try:
            found = parse_link(address)
        except QueryError:
            continue
        assert all(isinstance(value, str) for value in found.values())
