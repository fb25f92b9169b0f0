"""The grammar of `q`: what is documented passes, what would be read otherwise is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.sources.wallhaven import Query, QueryError

GOOD = [
    *("", "draenei", "night elf", "+nature -anime", "-anime", '+a -"night elf"', "\u52d5\u6f2b"),
    *("@someone", "@\u81ea\u7531\u4f7f\u7528\u8005", "@a.b-c_1", "elf @someone type:png -anime"),
    *("id:1", "id:4294967295", " id:1 ", "like:2169oy", "type:png", "type:jpg", "type:jpeg elf"),
    *("re:zero", "c++", "spider-man", "a@b", "12:30", '"id: x"', '"like:this" elf', "key:value"),
    *('5"', "\U0001f600", "x" * 500),
    *("*", " * ", "elf*", "c**", "** elf", '"*" elf'),
]
BAD = [
    *("id:", "id:abc", "id:0", "id:-1", "id:12345678901", "id: 1", "id:1,2", "id:\u0661", "ID:1"),
    *("id:1 elf", "elf id:1", "id:1 id:2", "id:1 like:abc", "+id:1", "-id:1", 'id:1 "a b"'),
    *("like:", "like:../x", "like:2169oy elf", "like:x type:png", "-like:abc", "Like:abc"),
    *("like:abcdefghijklmnopq", "like:https://wallhaven.cc/w/2169oy"),
    *(
        "type:",
        "type:gif",
        "type:PNG",
        "Type:png",
        "type:png,jpg",
        "type:png type:jpg",
        "-type:png",
    ),
    *("@", "@ user", "-@user", "+@user", "@a/b", "@a @b", "@@a"),
    *("+", "-", "a + b", "elf -", "+-", "-- elf"),
    *("* elf", "-elf *", "* *", "-*", "+*", "id:1 *"),
    *("a\x00b", "a\nb", "a\tb", "\ud800", "\x7f", "x" * 501),
]


@pytest.mark.parametrize("q", GOOD, ids=lambda text: ascii(text)[:24])
def test_a_good_question(q: str) -> None:
    assert Query(q=q).q == q


@pytest.mark.parametrize("q", BAD, ids=lambda text: ascii(text)[:24])
def test_a_question_that_would_be_misread(q: str) -> None:
    with pytest.raises(QueryError, match=r"^q: must .*, such as \S+$") as caught:
        Query(q=q)
    assert caught.value.parameter == "q"
    line = str(caught.value)
    assert len(line) < 120
    assert Query(q=line.partition("such as ")[2])


@pytest.mark.parametrize(
    ("q", "line"),
    [
        ("id:abc", "q: must have a tag's number behind id: and no sign before it, such as id:1"),
        ("id:1 elf", "q: must have id: alone, without other terms, such as id:1"),
        ("@a @b", "q: must have one @ at most, such as @someone"),
        ("* -elf", "q: must have * alone, without other terms, such as *"),
        ("elf -", "q: must have a word right behind each + and -, such as -elf"),
    ],
)
def test_the_line(q: str, line: str) -> None:
    with pytest.raises(QueryError) as caught:
        Query(q=q)
    assert str(caught.value) == line


@given(st.text(max_size=40) | st.text('+-@:"* idtypelkjng123', max_size=30))
def test_any_text_is_a_question_or_refused(q: str) -> None:
    with suppress(QueryError):
        sent = Query(q=q).parameters().get("q", "")
        assert sent == ("" if q.strip() == "*" else q.strip())
        assert "*" not in sent.split()
