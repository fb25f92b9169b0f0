"""Text for people: tables and short lines on stdout."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import IO, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from collector.cli.streams import printable
from collector.core.audit import AuditRow
from collector.core.certificate import CERTIFICATE_FIELDS
from collector.core.runs import Json

# No line is folded in a file or a pipe: the next program expects one row on each line.
_FILE_COLUMNS = 10_000


class PlainConsole(Console):
    """Prints text as it is: no markup, no emoji, nothing that moves the cursor."""

    def __init__(self, file: IO[str] | None = None, width: int | None = None) -> None:
        super().__init__(file=file, width=width, highlight=False, markup=False, emoji=False)
        if width is None and not self.file.isatty():
            self.width = _FILE_COLUMNS

    def render_str(self, text: str, **options: Any) -> Text:
        """Render `text` on one line."""
        return super().render_str(printable(text), **options)


def show_mapping(title: str, values: Mapping[str, Json], console: Console) -> None:
    """Print one name and its whole value on each line; nested objects need `--json`."""
    console.print(title, soft_wrap=True)
    shown = {name: value for name, value in values.items() if not isinstance(value, dict)}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        text = "" if value is None else str(value)
        console.print(f" {name:<{width}}  {text}".rstrip(), soft_wrap=True)


def show_lines(values: Mapping[str, Json], console: Console) -> None:
    """Print one name and value on each line, never folded, so that they can be copied."""
    for name, value in values.items():
        console.print(f"  {name}: {value}", soft_wrap=True)


def show_exports(values: Mapping[str, Json], console: Console) -> None:
    """Print shell lines that export variables, never folded."""
    for name, value in values.items():
        console.print(f"export {name}={shlex.quote(str(value))}", soft_wrap=True)


def show_audit(row: AuditRow, console: Console) -> None:
    """Print the audit row and, of a backfill, its certificate."""
    show_mapping("draenei_content.run_audit", row.as_json(), console)
    certificate = row.report.get("certificate")
    if isinstance(certificate, dict):
        # The database keeps the fields in another order.
        shown = {name: certificate.get(name) for name in CERTIFICATE_FIELDS}
        show_mapping("certificate", shown, console)


def show_rows(title: str, rows: Sequence[Mapping[str, Json]], console: Console) -> None:
    """Print a table, one line for each row, with the names of the first row as its header."""
    if not rows:
        console.print(f"{title}: none")
        return
    # Fold, do not cut: people copy ids.
    columns = (Column(name, overflow="fold") for name in rows[0])
    console.print(title, soft_wrap=True)
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)
