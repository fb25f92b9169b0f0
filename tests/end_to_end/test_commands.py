"""The contract of the command line: output, exit statuses, and a demo that can be repeated."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from itertools import count
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import anyio
import pytest
from databases import execute
from original import ORIGINAL
from PIL import Image

from collector.catalog.migrations import known_migrations

VERSION = known_migrations()[-1].version
# Each takes a second at least, and a lease ends after three.
SHORT_RUNS = 5
AUDIT_KEYS = {
    "dag_id",
    "run_id",
    "logical_date",
    "started_at",
    "ended_at",
    "duration_seconds",
    "metadata_inserted",
    "metadata_updated",
    "metadata_unchanged",
    "metadata_invalid",
    "images_uploaded",
    "images_adopted",
    "bytes_uploaded",
    "download_failures",
    "upload_failures",
    "missing_s3_after_run",
    "api_requests",
    "status",
    "notes",
    "report",
}


@pytest.mark.smoke
def test_demo_twice_stores_everything_once(collector, home: Path) -> None:
    env = {"COLLECTOR_HOME": str(home)}
    first = collector("demo", "--wallpapers", "12", "--json", env=env)
    assert first.status == 0, first.stderr
    assert set(first.answer) == AUDIT_KEYS
    assert (first.answer["status"], first.answer["images_uploaded"]) == ("succeeded", 12)

    second = collector("demo", "--wallpapers", "12", env=env)
    assert second.status == 0, second.stderr
    assert "verified: 12 of 12" in second.stdout
    assert "metadata_unchanged=12 metadata_invalid=0 images_uploaded=0" in second.stderr

    pictures = sorted((home / "pictures").iterdir())
    assert len(pictures) == 12
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()

    told = dict(re.findall(r"^  (\w+): (.*)$", second.stdout, re.MULTILINE))
    listed = subprocess.run(
        told["objects"], shell=True, capture_output=True, text=True, timeout=60, check=True
    )
    assert {line.split()[1] for line in listed.stdout.splitlines()} == {
        f"wallpapers/{path.name}" for path in pictures
    }
    (identity,) = json.loads(Path(told["s3_credentials"]).read_text())["identities"]
    assert identity["credentials"][0]["secretKey"] not in second.stdout + second.stderr
    assert told["s3_endpoint"].startswith("http://127.0.0.1:")


def test_an_object_is_fetched_into_the_current_folder(collector, simulator, tmp_path: Path) -> None:
    assert collector("migrate").status == 0
    assert collector("run", "--limit", "2", env=simulator).status == 0
    listed = collector("objects", "--json").answer["objects"]
    assert len(listed) == 2
    key = listed[0]["key"]
    assert collector("objects", "--get", key).status == 0
    assert (tmp_path / Path(key).name).stat().st_size == listed[0]["bytes"]

    absent = collector("objects", "--get", "wallpapers/absent.png", "--json")
    assert (absent.status, absent.answer["status"]) == (1, "failed")
    assert not (tmp_path / "absent.png").exists()


@pytest.mark.smoke
def test_what_was_given_up_is_listed_requeued_and_explained(collector, simulator) -> None:
    strict = {"COLLECTOR_MAX_IMAGE_BYTES": "10", "COLLECTOR_MAX_DEAD_PERCENT": "100"}
    assert collector("migrate").status == 0
    assert collector("run", "--json", env={**simulator, **strict}).status == 0

    listed = collector("dead", "list", "--json").answer
    assert listed["open"] == len(listed["dead_letters"]) == 40
    assert {letter["code"] for letter in listed["dead_letters"]} == {"too_large"}
    assert collector("dead", "list", "--code", "gone", "--json").answer["dead_letters"] == []
    wallhaven_id = listed["dead_letters"][0]["wallhaven_id"]
    explained = collector("explain", wallhaven_id)
    assert explained.status == 0
    assert "given up at transfer: too_large" in explained.stdout
    assert "COLLECTOR_MAX_IMAGE_BYTES" in explained.stdout

    assert collector("dead", "requeue", wallhaven_id, "--json").answer["requeued"] == 1
    again = collector("dead", "requeue", wallhaven_id, "--json")
    assert (again.status, again.answer["unknown"]) == (1, [wallhaven_id])
    assert len(collector("dead", "list").stdout.splitlines()) >= 39
    assert collector("dead", "requeue", "--code", "too_large").status == 0
    assert collector("run", "--json", env=simulator).answer["images_uploaded"] == 40
    assert collector("explain", wallhaven_id, "--json").answer["state"] == "stored"
    unknown = collector("explain", "nobody", "--json")
    assert (unknown.status, unknown.answer["state"]) == (1, "unknown")


def test_hosts_that_are_not_listed_are_a_wrong_setting(collector, simulator) -> None:
    wrong = {**simulator, "WALLHAVEN_IMAGE_HOSTS": "w.wallhaven.cc"}
    assert collector("migrate").status == 0
    run = collector("run", "--json", env=wrong)
    assert (run.status, run.answer["status"]) == (1, "failed")
    assert "WALLHAVEN_IMAGE_HOSTS" in run.answer["notes"]
    alone = collector("transfer", "--json", env=wrong)
    assert (alone.status, alone.stdout) == (2, "")
    assert alone.stderr.splitlines()[-1].startswith("collector: WALLHAVEN_IMAGE_HOSTS: ")
    assert collector("dead", "list", "--json").answer["open"] == 0
    assert collector("run", "--json", env=simulator).answer["images_uploaded"] == 40


@pytest.mark.smoke
def test_a_bucket_that_lacks_images_is_told_and_filled_again(collector, simulator) -> None:
    assert collector("migrate").status == 0
    assert collector("run", "--limit", "3", env=simulator).status == 0
    agreed = collector("verify")
    assert (agreed.status, "bucket and tables agree by key and size" in agreed.stdout) == (0, True)
    assert "agree by the sha256 of the bytes" in collector("verify", "--deep").stdout
    assert collector("verify", "--deep", "--json").answer["matched"] == 3

    empty = {**simulator, "BUCKET_NAME": f"test-{uuid4().hex[:20]}"}
    missing = collector("verify", "--json", env=empty)
    assert (missing.status, missing.answer["missing"], missing.answer["left"]) == (1, 3, 3)
    assert {found["kind"] for found in missing.answer["differences"]} == {"missing"}
    assert "verify --repair" in collector("verify", env=empty).stdout
    repaired = collector("verify", "--repair", "--json", env=empty)
    assert (repaired.status, repaired.answer["requeued"]) == (0, 3)
    assert collector("run", "--limit", "3", "--json", env=empty).answer["images_uploaded"] == 3
    assert collector("verify", "--deep", env=empty).status == 0


def test_the_janitor_finds_nothing_where_nobody_died(collector) -> None:
    assert collector("migrate").status == 0
    tidied = collector("janitor", "--upload-age", "0", "--run-silence", "0", "--json")
    assert (tidied.status, set(tidied.answer.values())) == (0, {0})
    assert tidied.answer["pages_trimmed"] == 0
    assert collector("janitor", "--keep-days", "0").status == 0
    assert collector("janitor", "--keep-days", "-1").status == 2


def test_migrate_is_safe_to_repeat(collector) -> None:
    assert collector("migrate").status == 0
    again = collector("migrate", "--json")
    assert again.answer == {"applied": [], "version": VERSION}


@pytest.mark.smoke
def test_migrate_takes_over_what_the_original_stored(collector, simulator, database_url) -> None:
    anyio.run(execute, database_url, ORIGINAL)
    migrated = collector("migrate", "--json")
    assert (migrated.status, migrated.answer["version"]) == (0, VERSION), migrated.stderr
    before = collector("status", "--json").answer
    assert (before["wallpapers"], before["pending"]) == (3, 1)
    ran = collector("run", "--limit", "3", "--json", env=simulator)
    assert (ran.status, ran.answer["images_uploaded"]) == (0, 3), ran.stderr


@pytest.mark.parametrize(
    ("words", "env", "named"),
    [
        (("run",), {"WALLHAVEN_MAX_PAGES": "many"}, "WALLHAVEN_MAX_PAGES"),
        (("run",), {"COLLECTOR_MEMORY_BYTES": "1"}, "COLLECTOR_MEMORY_BYTES"),
        (("run",), {"WALLHAVEN_API_URL": "http://example.com"}, "WALLHAVEN_API_URL"),
        (("status",), {"DATABASE_URL": "mysql://secret@host/db"}, "DATABASE_URL"),
        (
            ("status",),
            {"DATABASE_URL": f"postgresql://user:secret@{'database.' * 9}example:${{PORT}}/db"},
            "DATABASE_URL: cannot be read; a port must be a number",
        ),
        (("run",), {"AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_ACCESS_KEY_ID"),
        (("run",), {"WALLHAVEN_CATEGORIES": "2"}, "such as 111"),
        (("run",), {"WALLHAVEN_PURITY": "001"}, "WALLHAVEN_API_KEY"),
        (("status",), {"WALLHAVEN_QUERRY": "secret"}, "did you mean WALLHAVEN_QUERY?"),
        (("--env-file", "absent.env", "run"), {}, "--env-file"),
        (("run", "--query", "id:5 elf"), {}, "WALLHAVEN_QUERY"),
        (("run", "--max-pages", "0"), {}, '--max-pages: must be 1 or more, got "0"'),
        (("run", "--max-pages", "x"), {}, '--max-pages: must be a whole number, got "x"'),
        (("simulate", "--port", "65536"), {}, "--port: must be 65535 or less"),
        (("janitor", "--upload-age", "x"), {}, '--upload-age: must be a number, got "x"'),
        (("run", "--query", "elf", "--collection", "a/1"), {}, "give one of them"),
        (("run", "nature"), {}, "for words to search for, use --query"),
        (("backfill", "https://wallhaven.cc/w/abc123"), {}, "is no list that can be mirrored"),
        (("run", "https://wallhaven.cc/latest?purity=111"), {}, "WALLHAVEN_API_KEY"),
        (("extract", "--collection", "secret"), {}, "such as someone/15"),
        (("plan", "--collection", ""), {}, "such as someone/15"),
        (
            ("run", "--collection", "a/1"),
            {"WALLHAVEN_ATLEAST": "1x1"},
            "WALLHAVEN_ATLEAST: is ignored",
        ),
        (
            ("backfill", "--from-page", "5", "--to-page", "4"),
            {},
            "--to-page: must not be below --from-page, 5",
        ),
        (("backfill",), {"WALLHAVEN_SORTING": "toplist"}, "WALLHAVEN_SORTING"),
        (("run", "--nonsense"), {}, "--nonsense"),
        (("dead", "requeue"), {}, "name the letters: ids, or --code CODE, or --all"),
        (
            ("dead", "resolve", "abc", "--all"),
            {},
            "name the letters: ids, or --code CODE, or --all",
        ),
        (("dead", "list", "--code", "secret"), {}, "must be one of: invalid_metadata"),
        (("explain",), {}, "ID"),
        (("nonsense",), {}, "nonsense"),
        (("simulate", "--images", "/nonexistent"), {}, "--images"),
        (("simulate", "--profile", "stromy"), {}, "busy, calm, stormy"),
    ],
)
def test_wrong_usage_is_exit_2_with_one_clear_line(collector, words, env, named) -> None:
    ended = collector(*words, "--json", env=env)
    assert ended.status == 2
    assert ended.stdout == ""
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "secret" not in ended.stderr


def test_a_database_that_is_down_is_exit_1_with_one_object(collector) -> None:
    env = {"DATABASE_URL": "postgresql://airflow:hidden@127.0.0.1:1/airflow"}
    ended = collector("run", "--json", env=env)
    assert ended.status == 1
    assert ended.answer["status"] == "failed"
    assert "database" in ended.answer["notes"]
    assert "hidden" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_store_that_is_down_fails_the_run_which_is_audited(collector, simulator) -> None:
    env = {
        **simulator,
        "S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hidden",
    }
    assert collector("migrate", env=env).status == 0
    ended = collector("run", "--json", env=env)
    assert ended.status == 1
    assert set(ended.answer) == AUDIT_KEYS
    assert ended.answer["status"] == "failed"
    assert "127.0.0.1:1" in ended.answer["notes"]
    assert ended.answer["metadata_inserted"] == 40, "what needs no store is done"
    assert "hidden" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    backlog = collector("status", "--json", env=env).answer
    assert (backlog["pending"], backlog["dead"]) == (40, 0)


def test_an_unknown_profile_is_one_clear_line(collector, simulator) -> None:
    assert collector("migrate").status == 0
    ended = collector("run", "--json", env={**simulator, "AWS_PROFILE": "nobody"})
    assert ended.status == 1
    assert "nobody" in ended.answer["notes"]
    assert "Traceback" not in ended.stderr


def test_the_audit_of_a_run_that_never_was_is_refused(collector) -> None:
    assert collector("migrate").status == 0
    ended = collector("audit", "--run-id", "mistyped", "--json")
    assert (ended.status, ended.answer["status"]) == (1, "failed")
    assert "there is no run mistyped of collector" in ended.answer["notes"]
    assert collector("status", "--json").answer["runs"] == []
    unnamed = collector("audit")
    assert (unnamed.status, unnamed.stdout, unnamed.stderr.count("\n")) == (2, "", 1)
    assert "--run-id" in unnamed.stderr


def test_a_stage_that_is_called_alone_and_fails_ends_its_run(collector) -> None:
    assert collector("migrate").status == 0
    ended = collector("transfer", "--run-id", "alone", env={"AWS_PROFILE": "nobody"})
    assert ended.status == 1
    (run,) = collector("status", "--json").answer["runs"]
    assert (run["run_id"], run["status"]) == ("alone", "failed")


def test_env_file_may_stand_anywhere(collector, tmp_path: Path) -> None:
    (tmp_path / "settings.env").write_text("WALLHAVEN_MAX_PAGES=none\n")
    for words in (("--env-file", "settings.env", "run"), ("run", "--env-file=settings.env")):
        ended = collector(*words)
        assert ended.status == 2
        assert ended.stderr.count("\n") == 1
        assert "WALLHAVEN_MAX_PAGES" in ended.stderr


def test_a_missing_schema_is_exit_2_and_names_migrate(collector) -> None:
    ended = collector("run")
    assert ended.status == 2
    assert "collector migrate" in ended.stderr


@pytest.mark.case("PROC-17")
def test_a_named_file_is_named_again_and_warned_of(collector, home: Path, tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("PG_URL=postgresql://db/mine\n")
    embedded = {"COLLECTOR_HOME": str(home), "DATABASE_URL": ""}
    status = collector("status", "--env-file", "my.env", env=embedded)
    assert status.status == 0
    assert "neither my.env nor the environment sets DATABASE_URL: the embedded" in status.stderr
    assert "the environment sets" not in collector("status", env=embedded).stderr

    # The environment names a database, which has no schema.
    ended = collector("run", "--env-file=my.env")
    assert ended.status == 2
    assert "run `collector --env-file my.env migrate`" in ended.stderr
    _, database, *_ = collector("doctor", "--env-file", "my.env", "--json").answer["checks"]
    assert "run `collector --env-file my.env migrate`" in database["found"]


SEEDS = count(100)
SIMULATE = [sys.executable, "-m", "collector", "simulate", "--json"]


@pytest.fixture
def simulator(environment, tmp_path: Path):
    """`collector simulate` with wallpapers that no other test has; the settings it printed."""
    process = subprocess.Popen(
        [*SIMULATE, "--wallpapers", "40", "--seed", str(next(SEEDS))],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = json.loads(process.stdout.readline())
    yield printed
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stdout.close()


def test_a_simulator_follows_its_profile_and_what_is_given_wins(environment, tmp_path) -> None:
    (tmp_path / "mine.toml").write_text("[defaults]\nwallpapers = 5\n[limit]\nwindow_seconds = 6\n")
    for given, total in ((), 5), (("--wallpapers", "3"), 3):
        with subprocess.Popen(
            [*SIMULATE, "--profile", "mine.toml", *given],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            printed = json.loads(process.stdout.readline())
            with urlopen(f"{printed['WALLHAVEN_API_URL']}/search", timeout=10) as answer:
                assert json.load(answer)["meta"]["total"] == total
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert printed["WALLHAVEN_REQUESTS_PER_MINUTE"] == "450"


@pytest.mark.smoke
def test_run_status_and_stages_against_a_simulator(collector, simulator) -> None:
    assert collector("migrate").status == 0
    limited = collector("run", "--limit", "3", "--json", env=simulator)
    assert limited.status == 0, limited.stderr
    assert limited.answer["images_uploaded"] == 3

    run = ("--run-id", "by-hand", "--dag-id", "hands")
    assert collector("extract", "--json", *run, env=simulator).answer["stage"] == "extract"
    assert collector("load", "--json", *run, env=simulator).answer["stage"] == "load"
    stored = collector("transfer", "--json", "--limit", "2", *run, env=simulator)
    assert stored.answer["images_uploaded"] == 2
    audit = collector("audit", "--json", *run, env=simulator)
    assert set(audit.answer) == AUDIT_KEYS
    assert (audit.answer["dag_id"], audit.answer["images_uploaded"]) == ("hands", 2)


# What is asked for on the command line, and the same asked of the API itself.
QUESTIONS = {
    (): "search?q=draenei",
    ("--query", "*"): "search",
    ("--query", ""): "search",
    ("--query", "@Archon"): "search?q=%40Archon",
    ("--query", "id:1"): "search?q=id:1",
    ("--collection", "Archon/15"): "collections/Archon/15",
    ("https://wallhaven.cc/tag/1",): "search?q=id:1",
    ("https://wallhaven.cc/search?categories=100&atleast=1920x1080",): (
        "search?categories=100&atleast=1920x1080"
    ),
    ("wallhaven.cc/user/Archon",): "search?q=%40Archon",
    ("https://wallhaven.cc/user/Archon/favorites/15",): "collections/Archon/15",
}


def test_a_plan_of_all_that_can_be_mirrored(collector, simulator) -> None:
    assert collector("migrate").status == 0
    for words, path in QUESTIONS.items():
        ended = collector("plan", *words, "--json", env=simulator)
        assert ended.status == 0, ended.stderr
        with urlopen(f"{simulator['WALLHAVEN_API_URL']}/{path}", timeout=10) as answer:
            meta = json.load(answer)["meta"]
        planned = ended.answer
        assert planned["images"] == meta["total"] > 0
        assert planned["pages"] == planned["api_calls_used"] == meta["last_page"]
        assert set(planned) == {
            *("search", "images", "pages", "api_calls", "requests_per_minute", "hours"),
            *("gigabytes", "gigabytes_least", "gigabytes_most", "puts", "puts_least", "puts_most"),
            *("sampled_images", "api_calls_used", "known_wallpapers", "stored_images"),
        }
    said = collector("plan", env=simulator).stdout
    assert re.search(r"^  images: 40\n  pages: 2\n  API calls: 3$", said, re.MULTILINE)
    assert "nothing was changed" in said
    assert collector("status", "--json").answer["runs"] == []


def test_options_win_over_a_collection_of_the_settings(collector, simulator) -> None:
    assert collector("migrate").status == 0
    env = {**simulator, "WALLHAVEN_COLLECTION": "Archon/15"}
    planned = collector("plan", "--json", env=env).answer
    assert planned["search"] == "wallhaven/collections/Archon/15?purity=100"
    assert collector("plan", "--query", "*", "--json", env=env).answer["images"] == 40
    absent = collector("plan", "--collection", "Archon/99", "--json", env=env)
    assert (absent.status, absent.answer["status"]) == (1, "failed")
    assert "check the name of the collection" in absent.answer["notes"]


def test_an_enrichment_is_a_run_of_its_own_and_status_tells_its_share(collector, simulator) -> None:
    assert collector("migrate").status == 0
    run = ("--run-id", "listed")
    assert collector("extract", *run, env=simulator).status == 0
    assert collector("load", *run, env=simulator).status == 0
    enriched = collector("enrich", "--limit", "10", "--json", env=simulator)
    assert enriched.status == 0, enriched.stderr
    assert set(enriched.answer) == AUDIT_KEYS
    assert enriched.answer["run_id"].startswith("enrich__")
    assert enriched.answer["report"]["enrichment"]["enriched"] == 10
    assert enriched.answer["api_requests"] == 10

    status = collector("status", "--json").answer
    share = {name: status[name] for name in ("wallpapers", "enriched", "enriched_percent")}
    assert share == {"wallpapers": 40, "enriched": 10, "enriched_percent": 25.0}
    assert "enriched_percent  25.0" in collector("status").stdout


@pytest.mark.smoke
def test_doctor_finds_that_all_is_ok(collector, simulator) -> None:
    assert collector("migrate").status == 0
    ended = collector("doctor", "--json", env=simulator)
    assert ended.status == 0, ended.stdout
    assert [check["check"] for check in ended.answer["checks"]] == [
        "settings",
        "database",
        "bucket",
        "api",
    ]


def test_doctor_says_what_to_do(collector) -> None:
    assert collector("migrate").status == 0
    env = {"WALLHAVEN_API_URL": "http://127.0.0.1:1/api/v1"}
    ended = collector("doctor", "--json", env=env)
    assert ended.status == 1
    assert [check["ok"] for check in ended.answer["checks"]] == [True, True, True, False]
    lines = collector("doctor", env=env).stdout.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["ok", "ok", "ok", "FAIL"]
    assert "; check WALLHAVEN_API_URL" in lines[-1]


def test_doctor_sees_that_no_image_may_be_fetched(collector, simulator) -> None:
    assert collector("migrate").status == 0
    env = {**simulator, "WALLHAVEN_IMAGE_HOSTS": "w.wallhaven.cc"}
    ended = collector("doctor", "--json", env=env)
    assert ended.status == 1
    *_, api = ended.answer["checks"]
    assert not api["ok"]
    host = simulator["WALLHAVEN_IMAGE_HOSTS"]
    assert api["found"] == f"host_refused: http://{host} is not in WALLHAVEN_IMAGE_HOSTS"


def test_a_port_that_is_taken_is_named(collector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = collector("simulate", "--port", str(port))
    assert (ended.status, ended.stdout) == (2, "")
    assert f"--port: another program uses {port}" in ended.stderr
    elsewhere = collector("simulate", "--host", "192.0.2.1")
    assert (elsewhere.status, elsewhere.stdout) == (2, "")
    assert "--host: 192.0.2.1 is not an address of this machine" in elsewhere.stderr


def test_what_is_printed_into_a_pipe_is_neither_cut_nor_folded(collector, simulator) -> None:
    assert collector("migrate").status == 0
    run_id = "r" * 100
    assert collector("run", "--limit", "1", "--run-id", run_id, env=simulator).status == 0
    assert any(run_id in line for line in collector("status").stdout.splitlines())
    key = next(
        word for word in collector("objects").stdout.split() if word.startswith("wallpapers/")
    )
    explained = collector("explain", Path(key).stem).stdout
    assert re.search(r"object_sha256 +[0-9a-f]{64}\n", explained)


def test_doctor_tells_the_schema_of_the_embedded_server(collector) -> None:
    env = {"DATABASE_URL": "", "WALLHAVEN_API_URL": "http://127.0.0.1:1/api/v1"}

    def found() -> str:
        _, database, *_ = collector("doctor", "--json", env=env).answer["checks"]
        text: str = database["found"]
        return text

    assert found() == (
        f"the embedded server runs; the next run migrates its schema to version {VERSION}"
    )
    assert collector("status", env=env).status == 0
    assert found() == (
        f"the embedded server has schema version {VERSION}; 0 images are not stored yet"
    )


def test_doctor_names_what_it_checks_once(collector) -> None:
    env = {
        "DATABASE_URL": "postgresql://me@127.0.0.1:1/db",
        "S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "WALLHAVEN_API_URL": "http://127.0.0.1:1/api/v1",
    }
    _, *checks = collector("doctor", "--json", env=env).answer["checks"]
    assert [check["ok"] for check in checks] == [False, False, False]
    assert not [check for check in checks if re.match("database:|upload:|api:", check["found"])]
    assert "no connection to 127.0.0.1:1" in checks[0]["found"]


@pytest.mark.smoke
def test_sigterm_ends_a_run_cleanly_and_the_command_that_it_names_resumes(
    environment, tmp_path: Path, collector, simulator
) -> None:
    assert collector("migrate").status == 0
    words = ["run", "--dag-id", "signals", "--limit", "0", "--json"]
    env = {**environment, **simulator, "COLLECTOR_IN_FLIGHT": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "collector", *words],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "[draenei] load:" in line:
            break
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=15)
    assert process.returncode == 75
    interrupted = json.loads(stdout)
    assert interrupted["status"] == "interrupted"
    first, *others = [line for line in stderr.splitlines() if line.startswith("[draenei] ")]
    assert first.startswith("[draenei] interrupted: claims are released")
    assert any(line.startswith("[draenei] audit:") for line in others)

    program, *again = shlex.split(first.partition("Resume: ")[2])
    assert (program, again) == ("collector", [*words, "--run-id", interrupted["run_id"]])
    resumed = collector(*again, env=simulator)
    assert resumed.status == 0
    assert resumed.answer["status"] == "succeeded", resumed.answer["notes"]
    assert resumed.answer["run_id"] == interrupted["run_id"]
    assert resumed.answer["missing_s3_after_run"] == 0


def test_sigterm_ends_an_enrichment_which_goes_on_later(
    environment, tmp_path: Path, collector, simulator
) -> None:
    assert collector("migrate").status == 0
    assert collector("extract", "--run-id", "listed", env=simulator).status == 0
    assert collector("load", "--run-id", "listed", env=simulator).status == 0
    enrich = ["enrich", "--limit", "12", "--run-id", "signals", "--json"]
    # Of these, two are used up, and five left to others: the second batch of four waits.
    env = {**environment, **simulator, "WALLHAVEN_REQUESTS_PER_MINUTE": "14"}
    process = subprocess.Popen(
        [sys.executable, "-m", "collector", *enrich],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "waiting" in line:
            break
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=15)
    assert process.returncode == 75
    interrupted = json.loads(stdout)
    assert interrupted["status"] == "interrupted"
    assert 4 <= interrupted["report"]["enrichment"]["enriched"] < 12

    resumed = collector(*enrich, env=simulator).answer
    assert (resumed["status"], resumed["report"]["enrichment"]["enriched"]) == ("succeeded", 12)


def test_what_a_killed_run_had_in_its_hands_the_next_one_finishes(
    environment, tmp_path: Path, collector, simulator
) -> None:
    assert collector("migrate").status == 0
    env = {**environment, **simulator, "COLLECTOR_IN_FLIGHT": "4", "COLLECTOR_LEASE_SECONDS": "3"}
    process = subprocess.Popen(
        [sys.executable, "-m", "collector", "run"],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "[draenei] load:" in line:
            break
    process.kill()
    process.communicate()

    # A run that is over before the dead one's leases are half over leaves them to the next.
    for _ in range(SHORT_RUNS):
        ended = collector("run", "--json", env={**simulator, "COLLECTOR_LEASE_SECONDS": "3"})
        assert ended.status == 0
        if ended.answer["status"] == "succeeded":
            break
        left = ended.answer["report"]["claimed_by_others"]
        assert (ended.answer["status"], ended.answer["missing_s3_after_run"]) == ("partial", left)
    assert (ended.answer["status"], ended.answer["missing_s3_after_run"]) == ("succeeded", 0)


def test_importing_collector_needs_no_airflow_and_runs_nothing() -> None:
    code = "import sys, collector; print('airflow' in sys.modules, len(sys.modules) < 200)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert shown.stdout.split() == ["False", "True"]


def test_a_file_that_is_here_already_is_not_overwritten(collector, tmp_path: Path) -> None:
    (tmp_path / "abc123.jpg").write_text("precious")
    ended = collector("objects", "--get", "wallpapers/abc123.jpg")
    assert ended.status == 2
    assert "abc123.jpg exists already and was not overwritten" in ended.stderr
    assert (tmp_path / "abc123.jpg").read_text() == "precious"
    assert collector("objects", "--get", "../../etc/passwd").status == 2


@pytest.mark.case("DSK-05")
@pytest.mark.parametrize(
    "enter",
    [
        pytest.param("cd /proc", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux")),
        "mkdir gone && cd gone && rmdir ../gone",
    ],
)
def test_a_folder_that_takes_no_file_is_refused_at_once(
    environment, tmp_path: Path, enter: str
) -> None:
    # Also for root, whose rights say nothing of what the file system takes.
    command = [sys.executable, "-m", "collector", "objects", "--get", "wallpapers/abc123.jpg"]
    ended = subprocess.run(
        ["sh", "-c", f'{enter} && exec "$@"', "sh", *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--get: the current folder cannot be written" in ended.stderr
    assert ended.stderr.count("\n") == 1
