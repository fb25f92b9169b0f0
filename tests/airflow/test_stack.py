"""The composed stack end to end: commands and environment are those of docker-compose.yml."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import psutil
import psycopg2
import pytest
from airflow_api import BACKFILL, DAG_ID, AirflowApi
from bucket import Bucket
from documents import container_commands, follow
from image_gate import WALLPAPERS, ImageGate
from psycopg2.extras import RealDictCursor
from stack import Stack

from collector.simulator import Simulator

TASKS = ["extract_metadata", "load_metadata_to_db", "download_and_upload_to_s3", "audit_run"]
# How long a test waits for what a run does on its way.
PATIENCE_SECONDS = 60.0
Query = Callable[[str], list[dict[str, Any]]]
BURNT_ATTEMPTS = "SELECT COALESCE(sum(attempts), 0)::int AS sum FROM draenei_content.transfers"


@pytest.fixture(scope="session")
def query(stack: Stack) -> Query:
    """Ask the database as user `airflow`, as the README does."""
    port = stack.addresses.of["postgres", 5432]

    def ask(statement: str) -> list[dict[str, Any]]:
        with (
            psycopg2.connect(
                host="127.0.0.1", port=port, user="airflow", password="airflow", dbname="airflow"
            ) as connection,
            connection.cursor(cursor_factory=RealDictCursor) as cursor,
        ):
            cursor.execute(statement)
            return [dict(row) for row in cursor.fetchall()]

    return ask


def _audit(query: Query, run_id: str) -> dict[str, Any]:
    (row,) = query(f"SELECT * FROM draenei_content.run_audit WHERE run_id = '{run_id}'")
    return row


def _wait(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.mark.case("AF-10")
def test_the_first_daily_run_starts_by_itself_and_stores_everything(
    airflow: AirflowApi, query: Query, bucket: Bucket
) -> None:
    assert airflow.import_errors() == []
    (run,) = _wait(airflow.runs)
    assert run["run_type"] == "scheduled"
    assert airflow.wait_run(run["dag_run_id"]) == "success", airflow.story(run["dag_run_id"])
    assert airflow.dag()["is_paused"] is False
    row = _audit(query, run["dag_run_id"])
    assert row["dag_id"] == DAG_ID
    assert row["logical_date"] is not None
    assert (row["status"], row["images_uploaded"]) == ("succeeded", WALLPAPERS)
    assert len(bucket.keys()) == WALLPAPERS
    assert airflow.xcom(run["dag_run_id"], "extract_metadata")["invalid"] == 0


@pytest.mark.case("AF-07")
def test_a_manual_run_has_no_logical_date_and_finds_nothing_new(
    airflow: AirflowApi, query: Query
) -> None:
    airflow.trigger("manual", {"pages": 1, "limit": 5, "in_flight": 2, "only": True})
    assert airflow.wait_run("manual") == "success", airflow.story("manual")
    row = _audit(query, "manual")
    assert (row["status"], row["logical_date"], row["images_uploaded"]) == ("succeeded", None, 0)
    for task in TASKS:
        counts = airflow.xcom("manual", task)
        assert counts
        assert all(type(count) is int for count in counts.values())


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"pages": 0}, "0 is less than the minimum of 1"),
        ({"limit": -1}, "-1 is less than the minimum of 0"),
        ({"in_flight": "many"}, "'many' is not of type"),
        ({"query": 7}, "7 is not of type"),
    ],
)
def test_a_wrong_form_is_refused_with_words(
    airflow: AirflowApi, conf: dict[str, Any], words: str
) -> None:
    assert words in airflow.refusal(conf)


def test_a_missing_bucket_fails_the_run_with_one_clear_line(
    airflow: AirflowApi, query: Query, bucket: Bucket, simulator: Simulator
) -> None:
    bucket.delete()
    _forget_stored(query, 3)
    try:
        airflow.trigger("no_bucket", {"limit": 3})
        assert airflow.wait_run("no_bucket") == "failed"
    finally:
        bucket.create(bucket.name)
    states = airflow.task_states("no_bucket")
    assert states["download_and_upload_to_s3"] == "failed"
    assert states["audit_run"] == "success"
    row = _audit(query, "no_bucket")
    assert row["status"] == "failed"
    assert bucket.name in row["notes"]
    log = airflow.log("no_bucket", "download_and_upload_to_s3")
    (line,) = [line for line in log if line.startswith("[draenei] upload: ")]
    assert f"bucket {bucket.name} does not exist: create it or set BUCKET_NAME" in line
    assert airflow.tries("no_bucket", "download_and_upload_to_s3") == 1
    assert query(BURNT_ATTEMPTS) == [{"sum": 0}]


def test_a_run_marked_failed_in_mid_download_is_audited_and_leaves_no_upload(
    airflow: AirflowApi, query: Query, bucket: Bucket, gate: ImageGate
) -> None:
    _forget_stored(query, WALLPAPERS)
    gate.close()
    try:
        airflow.trigger("stopped")
        assert gate.held.acquire(timeout=PATIENCE_SECONDS)
        _wait(bucket.uploads)
        airflow.mark_failed("stopped")
        _wait(lambda: _audit(query, "stopped")["status"] != "running")
        assert bucket.uploads() == []
    finally:
        gate.open()
    assert airflow.wait_run("stopped") == "failed"
    assert airflow.task_states("stopped")["audit_run"] == "success"
    assert _audit(query, "stopped")["status"] == "interrupted"
    assert query(BURNT_ATTEMPTS) == [{"sum": 0}]

    airflow.trigger("completes")
    assert airflow.wait_run("completes") == "success", airflow.story("completes")
    assert _audit(query, "completes")["missing_s3_after_run"] == 0
    assert len(bucket.keys()) == WALLPAPERS


@pytest.mark.case("AF-01")
def test_a_killed_task_is_tried_again_and_counts_nothing_twice(
    airflow: AirflowApi, query: Query, bucket: Bucket, gate: ImageGate, simulator: Simulator
) -> None:
    bucket.delete()
    bucket.create(bucket.name)
    _forget_stored(query, WALLPAPERS)
    gate.close()
    try:
        airflow.trigger("killed")
        assert gate.held.acquire(timeout=PATIENCE_SECONDS)
        _wait(lambda: len(bucket.keys()) > WALLPAPERS // 2)
        os.kill(_client_of(simulator), signal.SIGKILL)
    finally:
        gate.open()
    assert airflow.wait_run("killed") == "success", airflow.story("killed")
    assert airflow.tries("killed", "download_and_upload_to_s3") == 2
    row = _audit(query, "killed")
    assert row["status"] == "succeeded"
    # What had landed without being confirmed is adopted.
    assert row["images_uploaded"] + row["images_adopted"] == WALLPAPERS
    assert len(bucket.keys()) == WALLPAPERS


def test_the_commands_of_the_documents_work(
    stack: Stack, airflow: AirflowApi, query: Query, bucket: Bucket
) -> None:
    said = {" ".join(words): follow(words, stack, bucket) for words in container_commands()}
    assert len(said) > 5
    (listing,) = [text for line, text in said.items() if "minio-init" in line]
    assert "wallpapers/" in listing
    (table,) = [text for line, text in said.items() if "psql" in line]
    assert "succeeded" in table
    backfills = _wait(lambda: [it for it in airflow.runs() if it["run_type"] == "backfill"][:3])
    assert len(backfills) == 3
    for run in backfills:
        run_id = run["dag_run_id"]
        assert airflow.wait_run(run_id) == "success", airflow.story(run_id)
    dates = {_audit(query, run["dag_run_id"])["logical_date"].date() for run in backfills}
    assert dates == {date(2026, 11, day) for day in (1, 2, 3)}


def test_a_whole_list_is_mirrored_once(airflow: AirflowApi, query: Query) -> None:
    backfill = AirflowApi(airflow.url, "admin", "admin", BACKFILL)
    (run,) = backfill.runs()  # triggered by a command of the documents
    first = run["dag_run_id"]
    assert backfill.wait_run(first) == "success", backfill.story(first)
    assert backfill.task_states(first) == {"mirror_list": "success"}
    row = _audit(query, first)
    assert (row["dag_id"], row["status"]) == (BACKFILL, "succeeded")
    assert row["report"]["certificate"]["verdict"] == "complete"

    backfill.trigger("again", run["conf"])
    assert backfill.wait_run("again") == "success", backfill.story("again")
    counts = backfill.xcom("again", "mirror_list")
    assert counts["images_uploaded"] == row["images_uploaded"]
    assert all(type(count) is int for count in counts.values())
    assert query("SELECT id FROM draenei_content.run_audit WHERE run_id = 'again'") == []


def test_a_backfill_that_was_marked_failed_or_killed_is_gone_on_with(
    airflow: AirflowApi, query: Query, bucket: Bucket, gate: ImageGate, simulator: Simulator
) -> None:
    backfill = AirflowApi(airflow.url, "admin", "admin", BACKFILL)
    bucket.delete()
    bucket.create(bucket.name)
    _forget_stored(query, WALLPAPERS)
    gate.close()
    try:
        backfill.trigger("list_stopped")
        _wait(bucket.uploads)
        backfill.mark_failed("list_stopped")
        _wait(lambda: _audit(query, "list_stopped")["status"] == "interrupted")
        assert bucket.uploads() == []
        assert query(BURNT_ATTEMPTS) == [{"sum": 0}]

        backfill.trigger("list_killed")
        _wait(bucket.uploads)
        os.kill(_client_of(simulator), signal.SIGKILL)
    finally:
        gate.open()
    assert backfill.wait_run("list_killed") == "success", backfill.story("list_killed")
    assert backfill.tries("list_killed", "mirror_list") == 2
    row = _audit(query, "list_stopped")
    assert (row["status"], row["missing_s3_after_run"]) == ("succeeded", 0)
    assert row["images_uploaded"] + row["images_adopted"] == WALLPAPERS
    assert query("SELECT id FROM draenei_content.run_audit WHERE run_id = 'list_killed'") == []


@pytest.mark.case("AF-09")
def test_stopping_the_scheduler_hands_claims_back_and_aborts_uploads(
    stack: Stack, airflow: AirflowApi, query: Query, bucket: Bucket, gate: ImageGate
) -> None:
    bucket.delete()
    bucket.create(bucket.name)
    _forget_stored(query, WALLPAPERS)
    gate.close()
    try:
        airflow.trigger("cut")
        assert gate.held.acquire(timeout=PATIENCE_SECONDS)
        _wait(bucket.uploads)
        stack.stop_one("airflow-scheduler")
    finally:
        gate.open()
    assert bucket.uploads() == []
    assert query(BURNT_ATTEMPTS) == [{"sum": 0}]
    states = "SELECT DISTINCT state FROM draenei_content.transfers"
    assert query(states) == [{"state": "pending"}]


def _forget_stored(query: Query, count: int) -> None:
    """Make `count` wallpapers look as if they had never been stored."""
    query(
        "UPDATE draenei_content.wallpapers SET s3_key = NULL, object_sha256 = NULL,"
        " object_bytes = NULL, stored_at = NULL WHERE id IN"
        f" (SELECT id FROM draenei_content.wallpapers ORDER BY id LIMIT {count}) RETURNING id"
    )


def _client_of(simulator: Simulator) -> int:
    """Return the process that is downloading from the image host."""
    port = int(simulator.image_host.rpartition(":")[2])
    clients = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.raddr and connection.raddr.port == port and connection.pid
    }
    (pid,) = clients - {os.getpid()}
    return pid
