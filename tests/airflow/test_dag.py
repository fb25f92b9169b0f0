"""The DAG without a scheduler: its shape, what importing it needs, and `dag.test()`."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from airflow_api import BACKFILL, DAG_ID
from bucket import Bucket
from compose import ROOT
from image_gate import WALLPAPERS
from psycopg2.extras import RealDictCursor
from stack import Stack

DAG_FOLDER = ROOT / "dags"
PROGRAMS = Path(__file__).with_name("programs")
# CPU seconds with the import of Airflow: 4.3 s were seen on a slow and busy machine.
IMPORT_SECONDS = 6.0
TASKS = ["extract_metadata", "load_metadata_to_db", "download_and_upload_to_s3", "audit_run"]
DATABASE = "dag_test"
# One where nothing is stored yet.
BACKFILL_DATABASE = "backfill_test"
ENRICHMENT = "draenei_enrichment"
MAINTENANCE = "draenei_maintenance"


# Made by an earlier stack: by `airflow`, before there was a role `collector`.
ORIGINAL = """
CREATE SCHEMA draenei_content;
CREATE TABLE draenei_content.wallpapers (
    id bigserial PRIMARY KEY, wallhaven_id text UNIQUE NOT NULL, url text NOT NULL,
    resolution text, category text, purity text, file_size bigint, s3_key text,
    created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now()
);
INSERT INTO draenei_content.wallpapers (wallhaven_id, url)
VALUES ('abc123', 'https://w.wallhaven.cc/full/ab/wallhaven-abc123.jpg');
"""


def test_each_task_imports_the_engine_and_calls_one_stage() -> None:
    tree = ast.parse((DAG_FOLDER / f"{DAG_ID}.py").read_text())
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for task, stage in zip(TASKS, ["extract", "load", "transfer", "audit"], strict=True):
        words, engine, call = functions[task].body
        assert isinstance(words, ast.Expr)
        assert isinstance(engine, ast.ImportFrom)
        assert engine.module == "collector.runtime.scheduled"
        assert isinstance(call, ast.Return)
        assert ast.unparse(call).startswith(f"return run_stage('{stage}', settings_for(")


@pytest.mark.case("AF-08")
@pytest.mark.case("AF-10")
def test_importing_it_is_quick_and_needs_no_network_database_or_settings(tmp_path: Path) -> None:
    _describe(tmp_path)  # writes airflow.cfg, once
    before = os.times()
    shape = _describe(tmp_path)
    after = os.times()
    assert shape == {
        "schedule": "@daily",
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": None,
        "upstream": dict(zip(TASKS, [[], *([task] for task in TASKS)], strict=False)),
        "teardowns": ["audit_run"],
        "hides_failures": [],
        "without_limit": [],
        "without_retries": [],
        "one_at_a_time": ["extract_metadata"],
        "without_words": [],
        "mapped": [],
        "pools": {"download_and_upload_to_s3": "draenei_transfers"},
    }
    user = after.children_user - before.children_user
    system = after.children_system - before.children_system
    assert user + system < IMPORT_SECONDS


def test_several_workers_map_the_transfer_and_nothing_else(tmp_path: Path) -> None:
    shape = _describe(tmp_path, TRANSFER_WORKERS="3")
    assert shape["mapped"] == ["download_and_upload_to_s3"]
    assert sorted(shape["upstream"]) == sorted(TASKS)


def test_the_enrichment_is_one_task_and_the_audit(tmp_path: Path) -> None:
    assert _describe(tmp_path, ENRICHMENT) == {
        "schedule": "@daily",
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": None,
        "upstream": {"enrich_wallpapers": [], "audit_run": ["enrich_wallpapers"]},
        "teardowns": ["audit_run"],
        "hides_failures": [],
        "without_limit": [],
        "without_retries": [],
        "one_at_a_time": ["enrich_wallpapers"],
        "without_words": [],
        "mapped": [],
        "pools": {},
    }


def test_the_backfill_is_one_task_without_limit_in_a_pool_of_its_own(tmp_path: Path) -> None:
    assert _describe(tmp_path, BACKFILL) == {
        "schedule": None,
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": None,
        "upstream": {"mirror_list": []},
        "teardowns": [],
        "hides_failures": [],
        "without_limit": ["mirror_list"],
        "without_retries": [],
        "one_at_a_time": [],
        "without_words": [],
        "mapped": [],
        "pools": {"mirror_list": "draenei_backfills"},
    }


def test_the_maintenance_verifies_also_where_the_janitor_failed(tmp_path: Path) -> None:
    assert _describe(tmp_path, MAINTENANCE) == {
        "schedule": "@weekly",
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": None,
        "upstream": {"tidy_up": [], "verify_bucket": ["tidy_up"]},
        "teardowns": [],
        "hides_failures": [],
        "without_limit": [],
        "without_retries": [],
        "one_at_a_time": [],
        "without_words": [],
        "mapped": [],
        "pools": {},
    }


def _describe(home: Path, dag_id: str = DAG_ID, **environment: str) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, PROGRAMS / "describe_dag.py", DAG_FOLDER, dag_id],
        env={
            "PATH": os.defpath,
            "HOME": str(home),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/none/none.db",
            **environment,
        },
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    shape: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return shape


@dataclass(frozen=True)
class DagRun:
    """How a `dag.test()` ended, and the audit row that it left under its own id."""

    run_id: str
    state: str
    tasks: dict[str, str | None]
    audit: dict[str, Any]
    output: str


@pytest.fixture(scope="module")
def dag_test(composed: Stack, bucket: Bucket) -> Iterator[Callable[..., DagRun]]:
    """Run a DAG in one process, on Airflow tables in SQLite and a database of its own."""
    composed.up("postgres-init")
    composed.up("minio-init")
    port = composed.addresses.of["postgres", 5432]
    server = f"postgresql://collector:collector@127.0.0.1:{port}"
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{composed.folder}/dag_test.db",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        # There are no keys before airflow-init, and none are needed here.
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__API__SECRET_KEY": "none",
        "AIRFLOW__API_AUTH__JWT_SECRET": "none",
    }
    for name in (DATABASE, BACKFILL_DATABASE):
        composed.run("postgres-init", ["psql", "-qc", f"CREATE DATABASE {name} OWNER collector"])
        composed.run("airflow-init", ["collector", "migrate"], DATABASE_URL=f"{server}/{name}")
    composed.run("airflow-init", ["airflow", "db", "migrate"], **environment)

    def run(conf: dict[str, Any], dag_id: str = DAG_ID, **settings: str) -> DagRun:
        address = f"{server}/{BACKFILL_DATABASE if dag_id == BACKFILL else DATABASE}"
        settings = {**environment, "DATABASE_URL": address, **settings}
        program = [sys.executable, str(PROGRAMS / "run_dag.py"), str(DAG_FOLDER), dag_id]
        output = composed.run("airflow-scheduler", [*program, json.dumps(conf)], **settings)
        run_id, state, tasks = json.loads(output.splitlines()[-1])
        with (
            psycopg2.connect(address) as connection,
            connection.cursor(cursor_factory=RealDictCursor) as cursor,
        ):
            cursor.execute("SELECT * FROM draenei_content.run_audit WHERE run_id = %s", [run_id])
            return DagRun(run_id, state, tasks, dict(cursor.fetchone() or {}), output)

    yield run
    # Other tests begin with an empty one.
    bucket.delete()
    bucket.create(bucket.name)


@pytest.mark.case("AF-06")
def test_a_failed_extract_is_audited_and_fails_the_run(dag_test: Callable[..., DagRun]) -> None:
    run = dag_test({}, WALLHAVEN_API_KEY="nobody")
    assert run.state == "failed", run.output
    assert run.tasks["extract_metadata"] == "failed"
    assert run.tasks["audit_run"] == "success"
    assert run.audit["status"] == "failed"
    assert "401" in run.audit["notes"]


def test_a_successful_run(dag_test: Callable[..., DagRun]) -> None:
    run = dag_test({"limit": 10})
    assert run.state == "success", run.output
    assert run.audit["status"] == "succeeded"
    assert (run.audit["metadata_inserted"], run.audit["images_uploaded"]) == (WALLPAPERS, 10)


def test_an_enrichment_run(dag_test: Callable[..., DagRun]) -> None:
    run = dag_test({"limit": 7}, ENRICHMENT)
    assert run.state == "success", run.output
    assert run.audit["status"] == "succeeded"
    assert run.audit["report"]["enrichment"]["enriched"] == 7


@pytest.mark.timeout(300)  # four runs of a DAG, each of which imports Airflow for every task
def test_the_maintenance_is_red_where_bucket_and_tables_differ(
    dag_test: Callable[..., DagRun], bucket: Bucket
) -> None:
    assert dag_test({}, MAINTENANCE).state == "success"
    bucket.put("wallpapers/nobody1.jpg", b"mine")
    run = dag_test({}, MAINTENANCE)
    assert run.tasks == {"tidy_up": "success", "verify_bucket": "failed"}, run.output
    assert "unowned: wallpapers/nobody1.jpg" in run.output
    assert dag_test({"repair": True}, MAINTENANCE).state == "success"
    assert dag_test({"deep": True}, MAINTENANCE).state == "success"


@pytest.mark.case("AF-05")
def test_workers_share_one_transfer(dag_test: Callable[..., DagRun]) -> None:
    run = dag_test({"limit": 20}, TRANSFER_WORKERS="3")
    assert run.state == "success", run.output
    assert run.audit["images_uploaded"] == 20


def test_a_setting_that_refuses_every_image_host_fails_the_run_and_is_audited(
    dag_test: Callable[..., DagRun],
) -> None:
    run = dag_test({}, WALLHAVEN_IMAGE_HOSTS="elsewhere.example")
    assert run.state == "failed", run.output
    assert run.tasks["download_and_upload_to_s3"] == "failed"
    assert run.tasks["audit_run"] == "success"
    assert run.audit["status"] == "failed"
    # The stage ends after the first attempts: how many were out by then is not fixed.
    assert 0 < run.audit["download_failures"] <= WALLPAPERS - 30
    assert "WALLHAVEN_IMAGE_HOSTS" in run.audit["notes"]


@pytest.mark.case("AF-04")
def test_a_backfill_that_failed_is_gone_on_with_as_the_same_run(
    dag_test: Callable[..., DagRun],
) -> None:
    failed = dag_test({}, BACKFILL, AWS_SECRET_ACCESS_KEY="another")
    assert failed.state == "failed", failed.output
    assert failed.tasks == {"mirror_list": "failed"}
    assert failed.audit["status"] == "failed"
    assert "check AWS_SECRET_ACCESS_KEY" in failed.audit["notes"]

    run = dag_test({}, BACKFILL)
    assert run.state == "success", run.output
    assert run.tasks == {"mirror_list": "success"}
    assert run.audit == {}, "a crawl is one run"
    assert f"audit: run_id={failed.run_id} status=succeeded" in run.output
    assert f" metadata_inserted={WALLPAPERS} " in run.output


@pytest.mark.parametrize(
    ("settings", "task", "words"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "another"},
            "download_and_upload_to_s3",
            "the secret key does not match: check AWS_SECRET_ACCESS_KEY",
        ),
        ({"DATABASE_URL": "postgresql://collector:no@{server}"}, "extract_metadata", "password"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}, "extract_metadata", "no conn"),
        ({"WALLHAVEN_PURITY": "101"}, "extract_metadata", "WALLHAVEN_PURITY: "),
    ],
    ids=["store", "password", "database", "setting"],
)
def test_what_is_wrong_is_said_in_one_line_by_the_task_that_needs_it(
    dag_test: Callable[..., DagRun],
    composed: Stack,
    settings: dict[str, str],
    task: str,
    words: str,
) -> None:
    server = f"127.0.0.1:{composed.addresses.of['postgres', 5432]}/{DATABASE}"
    settings = {name: value.format(server=server) for name, value in settings.items()}
    run = dag_test({}, **settings)
    assert run.state == "failed", run.output
    assert run.tasks[task] == "failed"
    lines = [line for line in run.output.splitlines() if "[draenei] " in line and words in line]
    assert lines, run.output
    if task == "download_and_upload_to_s3":
        assert run.audit["status"] == "failed"
        assert words in run.audit["notes"]


def test_a_field_that_the_form_lacks_is_refused_and_audited(
    dag_test: Callable[..., DagRun],
) -> None:
    run = dag_test({"max_pages": 5})
    assert run.state == "failed"
    assert "max_pages: the form has no such field" in run.output
    assert run.tasks["audit_run"] == "success"
    assert run.audit["status"] == "failed"


@pytest.mark.case("SEC-14")
def test_an_older_database_gets_the_role_without_losing_a_row(composed: Stack) -> None:
    composed.up("postgres-init")

    def psql(statement: str, database: str = "older") -> str:
        command = ["psql", "-Atqc", statement]
        return composed.run("postgres-init", command, PGDATABASE=database)

    psql("CREATE DATABASE older", "postgres")
    psql(ORIGINAL)
    port = composed.addresses.of["postgres", 5432]
    for _ in range(2):
        composed.run(
            "postgres-init", composed.services["postgres-init"].command, PGDATABASE="older"
        )
        composed.run(
            "airflow-init",
            ["collector", "migrate"],
            DATABASE_URL=f"postgresql://collector:collector@127.0.0.1:{port}/older",
        )
    assert psql("SELECT wallhaven_id FROM draenei_content.wallpapers").strip() == "abc123"
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'draenei_content'"
    assert psql(owners).strip() == "collector"
