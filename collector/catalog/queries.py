"""Named queries: SQL lives in `sql/`, Python asks for it by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)


def sql_folder() -> Path:
    """Return the folder `sql/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent / "sql"


@cache
def load_queries(folder: Path | None = None) -> Mapping[str, str]:
    """Return all queries of `sql/queries/*.sql` by name.

    Each stands behind a line `-- name: <name>` and the comment that describes it. Raises
    ValueError for a name that stands twice.
    """
    queries: dict[str, str] = {}
    for path in sorted((folder or sql_folder() / "queries").glob("*.sql")):
        _, *named = _NAME.split(path.read_text(encoding="utf-8"))
        for name, text in zip(named[::2], named[1::2], strict=True):
            if name in queries:
                raise ValueError(f"query {name} stands twice, again in {path.name}")
            queries[name] = text.strip()
    return queries
