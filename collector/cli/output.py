"""What people read: tables and short lines on stdout."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table

from collector.core.audit import AuditRow
from collector.core.runs import Json


def show_mapping(title: str, values: Mapping[str, Json], console: Console) -> None:
    """Print names and values below each other, each value whole; nested objects need `--json`."""
    console.print(title)
    shown = {name: value for name, value in values.items() if not isinstance(value, dict)}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        text = "" if value is None else str(value)
        console.print(f" {name:<{width}}  {text}".rstrip(), soft_wrap=True, markup=False)


def show_lines(values: Mapping[str, Json], console: Console) -> None:
    """Print names and values to paste from: one line each, however long."""
    for name, value in values.items():
        console.print(f"  {name}: {value}", soft_wrap=True, markup=False)


def show_exports(values: Mapping[str, Json], console: Console) -> None:
    """Print lines that set variables of a shell, one line each, however long."""
    for name, value in values.items():
        console.print(f"export {name}={shlex.quote(str(value))}", soft_wrap=True, markup=False)


def show_audit(row: AuditRow, console: Console) -> None:
    """Print the audit row."""
    show_mapping("draenei_content.run_audit", row.as_json(), console)


def show_rows(title: str, rows: Sequence[Mapping[str, Json]], console: Console) -> None:
    """Print a table with one line for each row, headed by the first row's names."""
    if not rows:
        console.print(f"{title}: none")
        return
    # Folded, not cut off: an id is there to be copied.
    columns = (Column(name, overflow="fold") for name in rows[0])
    table = Table(*columns, title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)
