"""Two Celery workers share the transfer of one run, and one of them is killed in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from airflow_api import DAG_ID, AirflowApi
from bucket import Bucket
from psycopg2.extras import RealDictCursor
from stack import Stack, free_port

TRANSFER = "download_and_upload_to_s3"
PATIENCE_SECONDS = 120.0
WORKERS = 2
# Starting and stopping it all included; on two cores it takes two minutes.
LIMIT_SECONDS = 480


def _wait(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.mark.case("AF-02")
@pytest.mark.timeout(LIMIT_SECONDS)
def test_a_worker_that_is_killed_costs_nothing_but_time(
    stack: Stack,
    airflow: AirflowApi,
    bucket: Bucket,
    wallpapers: int,
    record_property: Callable[[str, object], None],
) -> None:
    for number in range(WORKERS):
        stack.start(
            "airflow-worker",
            str(number),
            *("--celery-hostname", f"celery@worker{number}"),
            HOSTNAME=f"worker{number}",
            AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT=str(free_port()),
        )
    for number in range(WORKERS):
        stack.wait_healthy("airflow-worker", str(number))
    (run,) = _wait(airflow.runs)
    run_id = run["dag_run_id"]
    _wait(lambda: len(bucket.versions()) >= wallpapers // 10)
    stack.kill("airflow-worker0")
    stored_by_then = bucket.versions()
    assert len(stored_by_then) < wallpapers
    assert airflow.wait_run(run_id) == "success", airflow.story(run_id)

    stored = bucket.versions()
    assert len(stored) == wallpapers
    # What was there before the kill was not written again.
    assert {key: stored[key] for key in stored_by_then} == stored_by_then
    row = _audit(stack, run_id)
    assert row["status"] == "succeeded"
    assert row["images_uploaded"] + row["images_adopted"] == wallpapers
    assert row["missing_s3_after_run"] == 0
    tries = airflow.all_attempts(run_id, TRANSFER)
    assert max(tries) > 1, "nothing ran in the worker that was killed"
    record_property("transfer_tries", tries)
    record_property("uploaded", row["images_uploaded"])
    record_property("adopted", row["images_adopted"])
    record_property("stored_before_the_kill", len(stored_by_then))
    record_property("seconds", row["duration_seconds"])


def _audit(stack: Stack, run_id: str) -> dict[str, Any]:
    port = stack.addresses.of["postgres", 5432]
    with (
        psycopg2.connect(f"postgresql://airflow:airflow@127.0.0.1:{port}/airflow") as connection,
        connection.cursor(cursor_factory=RealDictCursor) as cursor,
    ):
        cursor.execute(
            "SELECT * FROM draenei_content.run_audit WHERE dag_id = %s AND run_id = %s",
            [DAG_ID, run_id],
        )
        return dict(cursor.fetchone() or {})
