"""Requests as the API wants them, character by character; the key in the header alone."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from collector.sources import ApiRequest
from collector.sources.wallhaven import CollectionName, Query, QueryError, WallhavenApi

API = "https://wallhaven.cc/api/v1"
KEY = "SECRETkey0123456789abcdefghijklm"
GUEST = WallhavenApi(API)
MEMBER = WallhavenApi(API, KEY)
DEFAULTS = "categories=111&purity=100&sorting=date_added&order=desc"
TAIL = "resolutions=&ratios=&ai_art_filter=0"
NAME = CollectionName("someone", 15)


def collection(username: str, api: WallhavenApi = GUEST) -> ApiRequest:
    return api.collection_request(CollectionName(username, 15), "100", 1)


@pytest.mark.parametrize(
    ("query", "page", "sent"),
    [
        (Query(), 1, f"page=1&{DEFAULTS}&{TAIL}"),
        (Query(q="draenei"), 20_890, f"page=20890&{DEFAULTS}&{TAIL}&q=draenei"),
        (Query(q="like:2169oy"), 1, f"page=1&{DEFAULTS}&{TAIL}&q=like%3A2169oy"),
        (Query(q="+a -b x&y=z#%"), 1, f"page=1&{DEFAULTS}&{TAIL}&q=%2Ba%20-b%20x%26y%3Dz%23%25"),
        (
            Query(
                q='"night elf" type:png @\u81ea',
                categories="101",
                purity="110",
                sorting="toplist",
                order="asc",
                top_range="1y",
                atleast="1920x1080",
                resolutions="1920x1080,2560x1440",
                ratios="16x9,landscape",
                colors="660000",
                ai_art_filter="1",
            ),
            3,
            "page=3&categories=101&purity=110&sorting=toplist&order=asc&topRange=1y"
            "&atleast=1920x1080&resolutions=1920x1080%2C2560x1440&ratios=16x9%2Clandscape"
            "&colors=660000&ai_art_filter=1&q=%22night%20elf%22%20type%3Apng%20%40%E8%87%AA",
        ),
        (
            Query(sorting="toplist"),
            1,
            "page=1&categories=111&purity=100&sorting=toplist&order=desc&topRange=1M&" + TAIL,
        ),
        (
            Query(sorting="random", seed="aBc123"),
            2,
            f"page=2&categories=111&purity=100&sorting=random&order=desc&{TAIL}&seed=aBc123",
        ),
    ],
    ids=lambda value: None if isinstance(value, Query) else str(value)[-24:],
)
def test_a_search(query: Query, page: int, sent: str) -> None:
    assert GUEST.search_request(query, page).url == f"{API}/search?{sent}"


@pytest.mark.parametrize(
    ("request_of", "path"),
    [
        (lambda api: api.details_request("2169oy"), "w/2169oy"),
        (
            lambda api: api.collection_request(NAME, "110", 2),
            "collections/someone/15?page=2&purity=110",
        ),
        (
            lambda api: api.collection_request(NAME, "001", 1),
            "collections/someone/15?page=1&purity=001",
        ),
        (lambda api: collection("\u81ea", api), "collections/%E8%87%AA/15?page=1&purity=100"),
        (lambda api: collection("a&b=c", api), "collections/a%26b%3Dc/15?page=1&purity=100"),
    ],
)
def test_the_other_endpoints(request_of: Callable[[WallhavenApi], ApiRequest], path: str) -> None:
    request = request_of(MEMBER)
    assert request.url == f"{API}/{path}"
    assert request.headers["X-API-Key"] == KEY


def test_a_wallpapers_id_may_have_capitals() -> None:
    assert GUEST.details_request("A1b").url == f"{API}/w/A1b"


@pytest.mark.parametrize(
    ("request_of", "parameter"),
    [
        (lambda: GUEST.search_request(Query(), 0), "page"),
        (lambda: GUEST.search_request(Query(), -1), "page"),
        (lambda: GUEST.search_request(Query(purity="101"), 1), "purity"),
        (lambda: GUEST.collection_request(NAME, "001", 1), "purity"),
        (lambda: GUEST.collection_request(NAME, "sfw", 1), "purity"),
        (lambda: GUEST.collection_request(NAME, "100", 0), "page"),
        (lambda: GUEST.collection_request(CollectionName("a", 0), "100", 1), "collection"),
        *((lambda text=text: GUEST.details_request(text), "id") for text in ("", "../x", "a/b")),
        *(
            (lambda text=text: collection(text), "user")
            for text in ("", ".", "..", "a/b", "a b", "a\\b", "a?b", "a#b", "%2e", "\x00", "\ud800")
        ),
    ],
)
def test_what_cannot_be_asked(request_of: Callable[[], ApiRequest], parameter: str) -> None:
    with pytest.raises(QueryError) as caught:
        request_of()
    assert caught.value.parameter == parameter


def test_nsfw_may_be_asked_for_with_a_key() -> None:
    assert "purity=111" in MEMBER.search_request(Query(purity="111"), 1).url


@pytest.mark.parametrize(
    ("text", "name"),
    [("someone/15", ("someone", 15)), ("\u81ea/1", ("\u81ea", 1)), ("a.b-c/90", ("a.b-c", 90))],
)
def test_the_name_of_a_collection(text: str, name: tuple[str, int]) -> None:
    found = CollectionName.parse(text)
    assert found == name
    assert str(found) == text


@pytest.mark.parametrize(
    "text", ["", "someone", "someone/", "/15", "a/0", "a/b", "a/1/2", "../1", "a b/1", "a/1\n"]
)
def test_what_names_no_collection(text: str) -> None:
    with pytest.raises(QueryError, match=r"^collection: must be USER/ID, such as someone/15$"):
        CollectionName.parse(text)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_there_is_no_header(key: str | None) -> None:
    headers = WallhavenApi(API, key).search_request(Query(), 1).headers
    assert "X-API-Key" not in headers
    assert headers["Accept"] == "application/json"
    assert "draenei-collector" in headers["User-Agent"]


def test_the_key_is_a_header_and_nowhere_else() -> None:
    request = MEMBER.search_request(Query(q="elf"), 1)
    assert request.headers["X-API-Key"] == KEY
    assert KEY not in request.url
    assert KEY not in repr(MEMBER)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=50), st.integers(1, 10**6))
@example("*", 1)
def test_q_never_comes_first_and_always_comes_back(q: str, page: int) -> None:
    try:
        query = Query(q=q)
    except QueryError:
        assume(False)
    raw = urlsplit(GUEST.search_request(query, page).url).query
    assert raw.startswith(f"page={page}&")
    assert raw.isascii()
    everything = q.strip() in ("", "*")
    assert dict(parse_qsl(raw)).get("q") == (None if everything else q.strip())


@given(st.text(max_size=20))
def test_no_name_of_a_user_leaves_its_step_of_the_path(username: str) -> None:
    try:
        url = collection(username).url
    except QueryError:
        return
    address = urlsplit(url)
    assert address.query == "page=1&purity=100"
    assert not address.fragment
    step = address.path.removeprefix("/api/v1/collections/").removesuffix("/15")
    assert "/" not in step
    assert unquote(step) == username
    assert username not in ("", ".", "..")
