"""Named queries: all of `sql/` is found, each described, each once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.catalog.queries import load_queries, sql_folder

QUERY_FILES = sorted((sql_folder() / "queries").glob("*.sql"))


def test_a_checkout_reads_its_own_folder() -> None:
    folder = sql_folder()
    assert (folder / "001_create_tables.sql").is_file()
    assert folder.parent == Path(__file__).resolve().parents[3]


def test_every_heading_becomes_a_query() -> None:
    headings = [
        line
        for path in QUERY_FILES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*--\s*name\b", line)
    ]
    assert headings
    assert sorted(headings) == sorted(f"-- name: {name}" for name in load_queries())


@pytest.mark.parametrize("name", load_queries())
def test_a_query_is_described_and_is_one_statement(name: str) -> None:
    query = load_queries()[name]
    assert re.match(r"-- \w.{8,}\n", query)
    # What stands between $$ is one text.
    statement = re.sub(r"\$\$[^$]*\$\$|'[^']*'|--.*", "", query).strip()
    assert statement.endswith(";")
    assert statement.count(";") == 1


@pytest.mark.parametrize("path", QUERY_FILES, ids=lambda path: path.name)
def test_nothing_stands_in_front_of_the_first_query(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("-- name: ")


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")
    return folder


def test_queries_of_all_files_are_loaded(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        a="-- name: first\n-- One.\nSELECT 1;\n\n-- name: second_one\n-- Two.\nSELECT 2;\n",
        b="-- name: third\n-- Three.\nSELECT 3;\n",
    )
    assert load_queries(folder) == {
        "first": "-- One.\nSELECT 1;",
        "second_one": "-- Two.\nSELECT 2;",
        "third": "-- Three.\nSELECT 3;",
    }


@pytest.mark.parametrize("second", ["a", "b"])
def test_a_name_that_stands_twice_is_refused(tmp_path: Path, second: str) -> None:
    query = "-- name: same\n-- One.\nSELECT 1;\n"
    folder = write(tmp_path, a=query * (2 if second == "a" else 1), b=query)
    with pytest.raises(ValueError, match=f"query same is defined twice, again in {second}.sql"):
        load_queries(folder)
