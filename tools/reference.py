"""Write the pages of docs/reference from code and schema: `make reference`.

Commands and options come from the command line itself, settings from Settings and .env.example,
tables from PostgreSQL's catalog after all migrations, codes from collector.core. Tests compare the
pages with what this module returns.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from typer.main import get_command

from collector.catalog import open_database
from collector.catalog.migrations import migrate
from collector.cli.app import COMMANDS, app
from collector.cli.execution import Exit
from collector.core.errors import CODE_MEANING
from collector.core.maintenance import KIND_MEANING
from collector.local import open_local_servers
from collector.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- made by tools/reference.py: edit what it reads, then run `make reference` -->\n"

HOME_DEFAULT = "the platform's user data folder"
EXIT_MEANING = {
    Exit.DONE: "succeeded; or partial: some items were given up, fewer than the threshold",
    Exit.FAILED: "failed: an outage, wrong credentials, no bucket, no database, too many dead "
    "letters, or a bucket that differs from the tables",
    Exit.USAGE: "usage or settings are wrong; one line says which",
    Exit.INTERRUPTED: "interrupted by SIGTERM, SIGINT or SIGHUP; the log names the command that "
    "continues the run",
}
# How a type of the command line is shown in place of a value.
VALUE_NAMES = {"int": "N", "float": "N", "str": "TEXT", "path": "PATH", "file": "FILE"}

ABOUT_COMMANDS = """\
`python -m collector` is the same as `collector`. `--json` and `--env-file FILE` may stand anywhere
in a command line.

Text for people and the JSON object go to stdout, logs to stderr. With `--json`, stdout is exactly
one JSON object on exit 0, 1 and 75: the audit row for `run`, `demo`, `enrich` and `audit`, else the
command's own report. If the database cannot be reached, the object has `status` and `notes` alone.
On exit 2 stdout is empty. [Exit statuses](errors.md#exit-statuses) are the same for all commands.
"""
ABOUT_SETTINGS = """\
Settings come from the environment, or from a file named with `--env-file`; the environment wins. An
empty value means the default, except for `S3_ENDPOINT_URL`. No `.env` is read unless it is named.
If a named file leaves database or store to the embedded servers, a warning says so. An unknown name
that begins with `WALLHAVEN_` or `COLLECTOR_`, or one in a named file that is close to a known one,
is refused as misspelt. `collector config` shows each effective setting and where it comes from.

[.env.example](../../.env.example) lists the same settings, ready to copy.
"""
ABOUT_CODES = """\
An item that is given up becomes a row of `draenei_content.dead_letters` with one of these codes.
[Handle dead letters](../how-to/dead-letters.md) says what to do about it.
"""
ABOUT_SIGNALS = """\
A SIGHUP that was ignored at the start (`nohup`) stays ignored. A second SIGTERM or SIGINT ends the
process at once. A reader of the output that left, or a closed descriptor, changes no status.
"""
ABOUT_TABLES = """\
All of them are in the schema `draenei_content`. [Architecture](../architecture.md#tables) says how
they relate and which stage writes them; [Query the tables](../how-to/query.md) has examples.
"""

Page = Iterator[str]


def pages() -> dict[str, str]:
    """Return the pages that need no database, by file name."""
    return {
        "commands.md": "\n".join(_commands_page()) + "\n",
        "settings.md": "\n".join(_settings_page()) + "\n",
        "errors.md": "\n".join(_errors_page()) + "\n",
    }


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Page:
    """Yield the lines of a table; texts in its cells stay on one line."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |"
    yield ""


# --- commands ---


def commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, in the order of `collector --help`."""
    names = group.commands if above else COMMANDS
    for name in names:
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _commands_page() -> Page:
    yield from ("# Commands", "", MADE)
    yield ABOUT_COMMANDS
    for name, command in commands(get_command(app)):
        yield from _command(name, command)


def _command(name: str, command: Any) -> Page:
    context = command.make_context(name, [], resilient_parsing=True)
    named = [_parameter(it, context) for it in command.get_params(context) if not it.hidden]
    arguments = [words for words, *_ in named if not words.startswith("-")]
    usage = " ".join(["collector", name, *arguments])
    yield from (f"## {name}", "", f"`{usage}`", "", str(command.help).strip(), "")
    rows = [(f"`{words}`", *rest) for words, *rest in named if words != "--help"]
    if rows:
        yield from table(("option", "meaning", "default and range"), rows)


def _parameter(parameter: Any, context: Any) -> tuple[str, str, str]:
    """Return how a parameter is typed, what it means, and its default."""
    words, text = parameter.get_help_record(context)
    words = re.sub(r" ?<(\w+)[^>]*>", lambda it: _value(it[1], parameter), words)
    text, _, extra = text.partition("  [")
    return words, text, _default_and_range(extra.rstrip("]"))


def _default_and_range(text: str) -> str:
    text = text.removeprefix("default: ")
    text = re.sub(r"(\d+)<=x<=(\d+)", r"\1 to \2", text)
    return text.replace("x>=", "at least ").replace("x<=", "at most ")


def _value(kind: str, parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return ""  # an argument's name is its value
    return " " + VALUE_NAMES.get(kind, kind.upper())


# --- settings ---


def shown_default(name: str) -> str:
    """Return a setting's default as the documents write it, empty for none."""
    field = Settings.model_fields[name.lower()]
    if field.default_factory is not None:
        return ""
    default = field.get_default()
    if default is None:
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def example_sections(text: str) -> dict[str, dict[str, str]]:
    """Return the settings of .env.example with the text above each, by section."""
    sections: dict[str, dict[str, str]] = {}
    said: list[str] = []
    for line in text.splitlines():
        if head := re.fullmatch(r"# --- (.*) ---", line):
            section = sections.setdefault(head[1], {})
        elif setting := re.match(r"#?([A-Z0-9_]+)=", line):
            section[setting[1]] = " ".join(said)
            said = []
        elif line.startswith("# "):
            said.append(line.removeprefix("# "))
        else:
            said = []
    return sections


def _settings_page() -> Page:
    yield from ("# Settings", "", MADE)
    yield ABOUT_SETTINGS
    for title, settings in example_sections((ROOT / ".env.example").read_text()).items():
        yield from (f"## {title}", "")
        rows = ((f"`{name}`", _default(name), text) for name, text in settings.items())
        yield from table(("name", "default", "meaning"), rows)


def _default(name: str) -> str:
    if name == "COLLECTOR_HOME":
        return HOME_DEFAULT
    return f"`{default}`" if (default := shown_default(name)) else "unset"


# --- codes and exit statuses ---


def _errors_page() -> Page:
    yield from ("# Codes and exit statuses", "", MADE)
    yield from ("## Codes of dead letters", "")
    yield ABOUT_CODES
    yield from table(("code", "meaning"), _quoted(CODE_MEANING))
    yield from ("## Exit statuses", "")
    yield from table(("exit status", "meaning"), ((str(int(it)), EXIT_MEANING[it]) for it in Exit))
    yield ABOUT_SIGNALS
    yield from ("## Differences that verify finds", "")
    yield "What `--repair` does about each: [Verify and repair](../how-to/verify.md).\n"
    yield from table(("difference", "meaning"), _quoted(KIND_MEANING))


def _quoted(meanings: Mapping[Any, str]) -> Iterator[tuple[str, str]]:
    return ((f"`{name}`", meaning) for name, meaning in meanings.items())


# --- tables ---

RELATIONS = """
SELECT c.oid, c.relname AS name, c.relkind = 'v' AS is_view,
    COALESCE(obj_description(c.oid, 'pg_class'), '') AS meaning
FROM pg_class AS c
WHERE c.relnamespace = 'draenei_content'::regnamespace AND c.relkind IN ('r', 'p', 'v')
ORDER BY is_view DESC, name
"""
COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
    COALESCE(pg_get_expr(d.adbin, d.adrelid), '') AS preset,
    COALESCE(col_description(a.attrelid, a.attnum), '') AS meaning
FROM pg_attribute AS a
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
# A rule that binds new rows alone (NOT VALID) is shown like any other.
RULES = """
SELECT replace(pg_get_constraintdef(oid), ' NOT VALID', '') AS rule FROM pg_constraint
WHERE conrelid = $1 AND contype IN ('p', 'u', 'f', 'c')
ORDER BY position(contype::text IN 'pufc'), rule
"""


async def tables_page(connection: asyncpg.Connection) -> str:
    """Return the page of tables, views and columns from the catalog of a migrated database."""
    lines = [*("# Tables and columns", "", MADE, ABOUT_TABLES)]
    for relation in await connection.fetch(RELATIONS):
        lines += [f"## {relation['name']}", ""]
        lines += ["A view.\n"] if relation["is_view"] else []
        lines += [f"{relation['meaning']}\n"] if relation["meaning"] else []
        lines += _columns(await connection.fetch(COLUMNS, relation["oid"]))
        if rules := await connection.fetch(RULES, relation["oid"]):
            lines += [*(f"- `{' '.join(row['rule'].split())}`" for row in rules), ""]
    return "\n".join(lines) + "\n"


def _columns(columns: Sequence[Mapping[str, Any]]) -> Page:
    # Columns of the table that has nothing to say in one of these cells go without it.
    said = [name for name in ("preset", "meaning") if any(column[name] for column in columns)]
    head = ("column", "type", "required", *("default" if it == "preset" else it for it in said))
    yield from table(
        head,
        (
            (
                f"`{column['name']}`",
                column["type"],
                "yes" if column["required"] else "",
                *(_code(column[name]) if name == "preset" else column[name] for name in said),
            )
            for column in columns
        ),
    )


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


async def tables_of_a_new_database() -> str:
    """Return the page of tables, from an embedded PostgreSQL of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        async with open_local_servers(Path(folder), s3=False) as servers:
            assert servers.postgres is not None
            async with (
                open_database(servers.postgres.dsn) as database,
                database.session() as session,
            ):
                await migrate(session)
                return await tables_page(session.connection)


def main() -> int:
    """Write all pages; return the exit status."""
    found = {**pages(), "tables.md": asyncio.run(tables_of_a_new_database())}
    for name, text in found.items():
        (FOLDER / name).write_text(text)
    print(f"docs/reference: {', '.join(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
