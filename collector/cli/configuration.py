"""The command `config`: each effective setting and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from collector.cli.app import app, invocation_of
from collector.cli.execution import Answer, Exit, print_answer
from collector.core.runs import Json

if TYPE_CHECKING:
    from collector.settings import Settings

HIDDEN = "set, not shown"
# A key's id is half of a credential, so it is not shown either.
_SECRET = frozenset({"aws_access_key_id"})


@app.command()
def config(context: typer.Context) -> Exit:
    """List each setting, its value and its source; no secret."""
    from collector.cli.output import show_rows
    from collector.settings.origins import origins

    invocation = invocation_of(context)
    settings = invocation.settings()
    found = origins(invocation.env_file, invocation.overrides)
    rows: list[dict[str, Json]] = [
        {"name": name.upper(), "value": shown(settings, name), "from": origin}
        for name, origin in found.items()
    ]
    data: dict[str, Json] = {
        str(row["name"]): {"value": row["value"], "from": row["from"]} for row in rows
    }
    lines = [{**row, "value": "unset" if row["value"] is None else row["value"]} for row in rows]
    answer = Answer(data, lambda console: show_rows("settings", lines, console))
    return print_answer(invocation, answer)


def shown(settings: Settings, name: str) -> Json:
    """Return the value of a setting without any secret, None if it is unset."""
    from pydantic import SecretStr

    from collector.catalog.database import describe_dsn

    value = getattr(settings, name)
    if name == "database_url" and value is not None:
        return describe_dsn(value.get_secret_value())
    if value and (name in _SECRET or isinstance(value, SecretStr)):
        return HIDDEN
    return value if value is None or isinstance(value, int | float) else str(value)
