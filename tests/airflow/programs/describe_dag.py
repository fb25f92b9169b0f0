"""Prints the shape of a DAG as JSON: describe_dag.py FOLDER DAG_ID. The network is refused."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any, NoReturn


def refuse(*_: object) -> NoReturn:
    raise AssertionError("the DAG file has used the network")


socket.socket.connect = refuse  # type: ignore[method-assign]

from airflow.dag_processing.dagbag import DagBag  # noqa: E402

DEFAULT_POOL = "default_pool"


def describe(dag: Any) -> dict[str, Any]:
    tasks = dag.tasks
    teardowns = [task for task in tasks if task.is_teardown]
    return {
        "schedule": dag.schedule,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "dagrun_timeout": dag.dagrun_timeout,
        "upstream": {task.task_id: sorted(task.upstream_task_ids) for task in tasks},
        "teardowns": [task.task_id for task in teardowns],
        "hides_failures": [task.task_id for task in teardowns if task.on_failure_fail_dagrun],
        "without_limit": [task.task_id for task in tasks if task.execution_timeout is None],
        "without_retries": [task.task_id for task in tasks if not task.retries],
        "one_at_a_time": [task.task_id for task in tasks if task.max_active_tis_per_dag == 1],
        "without_words": [task.task_id for task in tasks if not task.doc_md],
        "mapped": [task.task_id for task in tasks if task.is_mapped],
        "pools": {task.task_id: task.pool for task in tasks if task.pool != DEFAULT_POOL},
    }


bag = DagBag(dag_folder=sys.argv[1])
assert not bag.import_errors, bag.import_errors
sys.stdout.write(json.dumps(describe(bag.dags[sys.argv[2]])) + "\n")
