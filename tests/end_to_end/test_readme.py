"""Follow README and docs page by page: every command in them is run as it stands.

A code block marked `sh` holds commands, one marked `sql` statements. A line of another kind than
those below fails the test, and so does a `make` target without a rehearsal here. Blocks marked
`bash` are about the composed stack: tests/airflow/documents.py follows them.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import anyio
import asyncpg
import pytest
from anyio.from_thread import start_blocking_portal

from collector.cli.app import COMMANDS
from collector.local import LocalS3, LocalServers, open_local_servers
from collector.settings import Settings
from collector.store import S3Options, open_s3

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
EXAMPLE = (ROOT / ".env.example").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
# A first start on a busy machine takes a few seconds; this only bounds a hang.
COMMAND_TIMEOUT_SECONDS = 60
# A page has up to ten commands, each a process; every one of them is bounded by itself.
pytestmark = pytest.mark.timeout(300)
# What each target of make runs in the end, as the tests may do it: without a second venv, and
# `test` and `test-all` without themselves.
RECIPES = {
    "demo": "$(BIN)/python -m collector demo",
    "test": '$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow"',
    "test-all": "$(BIN)/python -m pytest $(PYTEST_ARGS) -m slow",
    "test-airflow": "-m pytest $(PYTEST_ARGS) tests/airflow",
    "test-celery": "-m pytest tests/airflow/celery",
    "soak": "tests/soak.py",
    "advisories": "$(BIN)/python tests/advisories.py",
    "reliability": "tests/reliability.py",
    "compose-smoke": "$(python) tests/compose_smoke.py",
    "lint": "$(BIN)/lint-imports",
    "docs": "tools/build_site.py",
    "reference": "tools/reference.py",
    "bench-tune": "benchmarks/transfer/tune.py",
    "requirements": "pyproject.toml -o requirements/engine.txt",
}


def blocks(kind: str, text: str) -> list[str]:
    """Return the code blocks of a page that are marked so, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def lines(name: str) -> list[str]:
    """Return the commands of a page, in order."""
    return [line for block in blocks("sh", PAGES[name]) for line in block.splitlines()]


# tests/unit/cli/test_serving.py and tests/integration/faults/test_rehearsals.py follow this one.
FOLLOWED = [name for name in PAGES if lines(name) and name != "docs/simulator.md"]
STATEMENTS = {
    name: [
        text.strip() for block in blocks("sql", page) for text in block.split(";") if text.strip()
    ]
    for name, page in PAGES.items()
}
# What a reader has done before a page that does not begin by itself.
OPEN_TERMINAL = ". .venv/bin/activate"
BEFORE = [OPEN_TERMINAL, "cp .env.example my.env", "collector --env-file my.env migrate"]


@dataclass
class Reader:
    """A person with a terminal, or a second one, in the folder of the project.

    `ran` are the commands with what they said; `stack` stops what was started in other terminals.
    """

    folder: Path
    logged_in: Mapping[str, str]
    filled_in: Mapping[str, str]
    stack: ExitStack
    ran: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)

    def follow(self, line: str) -> None:
        """Do what one line says."""
        words = shlex.split(line)
        doing: dict[str, Callable[[list[str]], None]] = {
            "make": self._make,
            "export": self._export,
            "unset": self._unset,
            "cp": self._copy,
            "collector": self._collector,
            ".": self._open_terminal,
        }
        self._expect(words[0] in doing, line)
        doing[words[0]](words[1:])

    def _expect(self, holds: bool, line: str) -> None:
        assert holds, f"a page says `{line}`, and no test knows how to follow it"

    def _make(self, words: list[str]) -> None:
        (target,) = words
        rule = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
        assert rule is not None, f"make has no target {target}"
        assert RECIPES[target] in rule[1]
        if target == "demo":
            home = {"COLLECTOR_HOME": str(self.folder / ".collector")}  # as make exports it
            self.environment = {**self.logged_in, **home}
            self._collector(["demo", "--wallpapers", "12"])

    def _open_terminal(self, words: list[str]) -> None:
        # The tests run in an environment of their own already.
        assert words == OPEN_TERMINAL.split()[1:]
        self.environment = dict(self.logged_in)

    def _export(self, words: list[str]) -> None:
        name, _, value = words[0].partition("=")
        assert name.lower() in Settings.model_fields
        # What the simulator printed here, where the port was a free one.
        value = self.exports.get(f"export {words[0]}", value)
        self.environment[name] = value.replace("$PWD", str(self.folder))

    def _unset(self, words: list[str]) -> None:
        (name,) = words
        self.environment.pop(name, None)

    def _simulate(self, words: list[str]) -> None:
        at = words.index("--port") + 1
        said_port, free = words[at], [*words[:at], "0", *words[at + 1 :]]
        process = self.stack.enter_context(self._started(free))
        self.stack.callback(process.send_signal, signal.SIGINT)
        assert process.stdout is not None
        for line in (process.stdout.readline().strip(), process.stdout.readline().strip()):
            value = line.partition("=")[2]
            port = re.findall(r":(\d+)", value)[-1]
            self.exports[line.replace(f":{port}", f":{said_port}")] = value

    def _copy(self, words: list[str]) -> None:
        assert words == [".env.example", "my.env"]
        text = EXAMPLE
        for name, value in self.filled_in.items():
            text, found = re.subn(rf"^#{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert found == 1, name
        (self.folder / "my.env").write_text(text)

    def _collector(self, words: list[str]) -> None:
        command = next(word for word in words if word in COMMANDS)
        if command == "simulate":
            self._simulate(words)
            return
        with self._started(words) as process:
            if command == "serve":  # until Ctrl-C, which is its success
                assert process.stdout is not None
                assert process.stdout.readline()
                process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
        assert process.returncode == 0, f"{words}: {stdout}{stderr}"
        self.ran.append((command, stdout))

    def _started(self, words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "collector", *words],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@dataclass(frozen=True)
class OwnServers:
    """A database and a bucket that settings name, as if they were somebody's own."""

    dsn: str
    s3: LocalS3
    bucket: str


@pytest.fixture
def own_servers(servers: LocalServers, database_url: str) -> OwnServers:
    """A database and a bucket of the reader's own."""
    assert servers.s3 is not None
    s3, bucket = servers.s3, f"own-{uuid4().hex[:20]}"
    anyio.run(_create_bucket, s3, bucket)
    return OwnServers(database_url, s3, bucket)


async def _create_bucket(s3: LocalS3, bucket: str) -> None:
    options = S3Options(bucket, s3.endpoint_url, s3.region, s3.access_key, s3.secret_key)
    async with open_s3(options) as store:
        await store.create_bucket()


@pytest.fixture
def servers_of_make(home: Path) -> Iterator[None]:
    """Keep the servers up that the commands of `make` share: each command starts faster."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_local_servers(home / ".collector")),
    ):
        yield


@pytest.fixture
def reader(
    own_servers: OwnServers, bare_environment: dict[str, str], home: Path
) -> Iterator[Reader]:
    """A reader in an empty folder, whose Wallhaven is a simulator."""
    # The platform's user data folder is below HOME, where nothing else names it.
    environment = {name: value for name, value in bare_environment.items() if "XDG_" not in name}
    environment["HOME"] = str(home)
    simulator = subprocess.Popen(
        [sys.executable, "-m", "collector", "simulate", "--json", "--wallpapers", "12"],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
    )
    with simulator, ExitStack() as stack:
        assert simulator.stdout is not None
        stack.callback(simulator.send_signal, signal.SIGTERM)
        printed = json.loads(simulator.stdout.readline())
        yield Reader(
            folder=home,
            logged_in={**environment, **printed},
            filled_in={
                "DATABASE_URL": own_servers.dsn,
                "BUCKET_NAME": own_servers.bucket,
                "S3_ENDPOINT_URL": own_servers.s3.endpoint_url,
                "AWS_ACCESS_KEY_ID": own_servers.s3.access_key,
                "AWS_SECRET_ACCESS_KEY": own_servers.s3.secret_key,
                "AWS_DEFAULT_REGION": own_servers.s3.region,
            },
            stack=stack,
        )


def follow(reader: Reader, name: str) -> None:
    """Do what a page says, and before that what it takes for granted."""
    starts_by_itself = lines(name)[0] == OPEN_TERMINAL or lines(name)[0].startswith("make ")
    for line in [*([] if starts_by_itself else BEFORE), *lines(name)]:
        reader.follow(line)


SPECIAL = ["README.md", "docs/tutorial.md", "docs/how-to/own-servers.md", "docs/how-to/rehearse.md"]


@pytest.mark.parametrize("name", [name for name in FOLLOWED if name not in SPECIAL])
def test_the_commands_of_a_page_work_in_their_order(reader: Reader, name: str) -> None:
    follow(reader, name)
    if "transfer" in dict(reader.ran):
        assert re.search(r"images_uploaded +12 *\n", reader.ran[-1][1])


@pytest.mark.usefixtures("servers_of_make")
@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_a_newcomer_gets_through(reader: Reader, name: str) -> None:
    assert "make demo" in lines(name)
    follow(reader, name)
    ran = [command for command, _ in reader.ran]
    assert {"demo", "run"} <= set(ran)
    said = dict(reader.ran)["run"]
    assert re.search(r"status +succeeded *\n", said)
    assert re.search(r"metadata_updated +0 *\n metadata_unchanged +0 *\n", said)


def test_the_rehearsal_meets_its_own_simulator(reader: Reader) -> None:
    follow(reader, "docs/how-to/rehearse.md")
    said = dict(reader.ran)["run"]
    assert re.search(r"images_uploaded +50 *\n", said), "a new home, and all of its simulator"


def test_own_servers_are_filled_and_every_statement_is_answered(
    reader: Reader, own_servers: OwnServers
) -> None:
    follow(reader, "docs/how-to/own-servers.md")
    answers = {
        name: anyio.run(_answers, own_servers.dsn, statements)
        for name, statements in STATEMENTS.items()
        if statements
    }
    last_runs, wallpapers, missing = answers["README.md"]
    # The stages one by one find all stored by the run before them.
    assert [run["images_uploaded"] for run in last_runs] == [0, 12]
    assert (wallpapers[0]["count"], missing[0]["count"]) == (12, 0)
    assert {"docs/tutorial.md", "docs/how-to/query.md", "docs/how-to/tags.md"} <= set(answers)


async def _answers(dsn: str, statements: list[str]) -> list[list[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [await connection.fetch(statement) for statement in statements]
    finally:
        await connection.close()


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_running_text_exist(name: str) -> None:
    running_text = re.sub(r"^```.*?^```$", "", PAGES[name], flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`collector (?:--env-file my.env )?(\w+)", running_text)) <= set(
        COMMANDS
    )
    targets = re.findall(r"`make ([\w-]+)", running_text)
    assert set(targets) <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_the_commands_that_matter_are_shown() -> None:
    shown = {word for name in FOLLOWED for line in lines(name) for word in line.split()}
    assert {
        *("run", "migrate", "doctor", "plan", "backfill", "enrich", "status", "dead", "verify"),
        *(
            "objects",
            "serve",
            "janitor",
            "config",
            "simulate",
            "extract",
            "load",
            "transfer",
            "audit",
        ),
    } <= shown
