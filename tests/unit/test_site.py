"""The script that builds the site: each page has one place, and no link in the result is dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import build_site
import pytest

ROOT = Path(__file__).resolve().parents[2]


def places(tree: Any) -> list[str]:
    """Return the pages of a navigation, in order."""
    if isinstance(tree, str):
        return [tree]
    inner = tree.values() if isinstance(tree, dict) else tree
    return [name for each in inner for name in places(each)]


def test_every_page_has_one_place() -> None:
    found = build_site.pages(ROOT)
    placed = places(build_site.navigation(found))
    assert placed[:2] == ["README.md", "docs/tutorial.md"]
    assert sorted(placed) == sorted(found)


def test_pages_that_come_later_have_a_place() -> None:
    later = ["docs/how-to/python.md", "docs/decisions/9999-later.md", "CHANGELOG.md"]
    tree = build_site.navigation([*build_site.pages(ROOT), *later])
    sections = {title: names for each in tree for title, names in dict(each).items()}
    assert later[0] in sections["How-to"]
    assert later[1] in sections["Decisions"]
    assert later[2] in sections["Project"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two pages, a picture and a file, and the folder of its site."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# R\n[a](docs/a.md#b) [f](data.json) [x](a://b) [n](no)\n")
    (tmp_path / "docs/a.md").write_text("# A\n![p](p.png) [up](../README.md)\n")
    for name in ("data.json", "docs/p.png", "unlinked.txt"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_linked_files_are_found_and_pictures_staged(repository: Path) -> None:
    found = build_site.pages(repository)
    assert found == ["README.md", "docs/a.md"]
    assert build_site.linked_files(repository, found) == {"data.json", "docs/p.png"}
    build_site.stage(repository, repository / "site")
    staged = {str(path.relative_to(repository)) for path in (repository / "site").rglob("*.*")}
    assert staged == {
        *("site/zensical.toml", "site/pages/README.md"),
        *("site/pages/docs/a.md", "site/pages/docs/p.png"),
    }


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("a/", False),
        ("a/#here", False),
        ("#top", False),
        ("data.json", False),
        ("https://wallhaven.cc", False),
        ("a/#there", True),
        ("#nowhere", True),
        ("b/", True),
        ("a.json", True),
    ],
)
def test_dead_links_are_found(tmp_path: Path, link: str, dead: bool) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "index.html").write_text(f'<h1 id="top">T</h1><a href="{link}">L</a>')
    (tmp_path / "a/index.html").write_text('<h1 id="here">H</h1><a href="..">up</a>')
    assert list(build_site.dead_links(tmp_path)) == ([f"index.html: {link}"] if dead else [])
