"""Named queries: SQL is kept in `sql/`, Python refers to it by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)


def sql_folder() -> Path:
    """Return the folder `sql/`: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent / "sql"


@cache
def load_queries(folder: Path | None = None) -> Mapping[str, str]:
    """Return all queries of `sql/queries/*.sql` by name.

    A line `-- name: <name>` and a comment that describes the query come before each. Raises
    ValueError for a name that is used twice.
    """
    queries: dict[str, str] = {}
    for path in sorted((folder or sql_folder() / "queries").glob("*.sql")):
        _, *named = _NAME.split(path.read_text(encoding="utf-8"))
        for name, text in zip(named[::2], named[1::2], strict=True):
            if name in queries:
                raise ValueError(f"query {name} is defined twice, again in {path.name}")
            queries[name] = text.strip()
    return queries
