"""What a person wants to know of a run: the lines at its end, and one line in `status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from rich.table import Table
from rich.text import Text

from collector.core.audit import AuditRow
from collector.core.runs import Json, StageName

if TYPE_CHECKING:
    from rich.console import Console

    from collector.settings import Settings

_COLOURS = {
    "succeeded": "green",
    "partial": "yellow",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "red",
    "crashed": "red",
}
_STARTED_CHARACTERS = len("2026-12-01T11:44")
_WIDE_COLUMNS = 160


def show_end(row: AuditRow, settings: Settings, console: Console) -> None:
    """Print what was searched, what was stored and where, and what is still missing and why."""
    console.print()
    lines = {
        "searched": f"{asked_for(settings)}: {_listed(row):,} wallpapers listed,"
        f" {row.metadata_inserted:,} of them new",
        "stored": f"{_stored(row)}, in bucket {settings.bucket_name} on {_store(settings)}",
        "missing": _missing(row),
    }
    for name, text in lines.items():
        console.print(f"{name:<8}  {text}", soft_wrap=True)


def asked_for(settings: Settings) -> str:
    """Return what is mirrored, in the words of the setting."""
    if settings.wallhaven_collection:
        return f"collection {settings.wallhaven_collection}"
    return settings.wallhaven_query.strip() or "*"


def _listed(row: AuditRow) -> int:
    return _number(row.report.get("items_seen")) - _number(row.report.get("duplicates"))


def _stored(row: AuditRow) -> str:
    stored = f"{row.images_uploaded:,} images, {row.bytes_uploaded / 1e6:,.1f} MB"
    return f"{stored}, and {row.images_adopted:,} found there" if row.images_adopted else stored


def _store(settings: Settings) -> str:
    if settings.uses_local_s3:
        return "the embedded S3 server"
    return urlsplit(settings.s3_endpoint_url or "").netloc or "AWS"


def _missing(row: AuditRow) -> str:
    missing = f"{row.missing_s3_after_run:,} wallpapers of any search have no image yet"
    reasons = [reason for reason in _reasons(row) if reason]
    return f"{missing}: {', '.join(reasons)}" if row.missing_s3_after_run and reasons else missing


def _reasons(row: AuditRow) -> Sequence[str]:
    given_up = _number(row.report.get("images_dead"))
    to_retry = row.download_failures + row.upload_failures - given_up
    claimed = _number(row.report.get("claimed_by_others"))
    return (
        f"{given_up:,} given up in this run (`collector dead list` says why)" if given_up else "",
        f"{to_retry:,} to be retried by the next run" if to_retry > 0 else "",
        f"{claimed:,} claimed by other workers" if claimed else "",
        "this run has stored as many as UPLOAD_BATCH_LIMIT or --limit allows"
        if _is_limit_reached(row)
        else "",
    )


def _is_limit_reached(row: AuditRow) -> bool:
    stages = row.report.get("stages")
    report = stages.get(StageName.TRANSFER) if isinstance(stages, dict) else None
    return isinstance(report, dict) and bool(report.get("is_limit_reached"))


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def show_runs(runs: Sequence[Mapping[str, Json]], console: Console) -> None:
    """Print one line for each run, which fits 80 columns; the notes are below the table."""
    if not runs:
        console.print("last runs: none")
        return
    # A pipe or a wide terminal has room for the id, which resumes a run.
    is_wide = console.width >= _WIDE_COLUMNS
    names = ("started", "status", "stored", "failed", "missing", "search")
    table = Table(*names, *(["run_id"] if is_wide else []), box=None)
    for column in table.columns[2:5]:
        column.justify = "right"
    for column in table.columns:
        column.no_wrap = True
    for run in runs:
        table.add_row(*_cells(run), *([str(run["run_id"])] if is_wide else []))
    console.print("last runs")
    console.print(table)
    for run in runs:
        if run["notes"] or run["status"] != "succeeded":
            console.print(f" {run['run_id']}: {run['notes'] or run['status']}", soft_wrap=True)


def _cells(run: Mapping[str, Json]) -> Sequence[str | Text]:
    status = str(run["status"])
    failed = _number(run["download_failures"]) + _number(run["upload_failures"])
    is_running = status == "running"
    return (
        str(run["started_at"] or "")[:_STARTED_CHARACTERS].replace("T", " "),
        Text(status, style=_COLOURS.get(status, "")),
        f"{_number(run['images_uploaded']) + _number(run['images_adopted']):,}",
        f"{failed:,}",
        "" if is_running else f"{_number(run['missing_s3_after_run']):,}",
        search_words(str(run["search"] or "")),
    )


def search_words(search_key: str) -> str:
    """Return the words of a search's canonical form: `draenei`, `*`, or `collection USER/ID`."""
    path, _, parameters = search_key.partition("?")
    _, _, collection = path.partition("/collections/")
    if collection:
        return f"collection {collection}"
    return parse_qs(parameters).get("q", ["*"])[0] if search_key else ""
