"""Airflow's REST API, as a person with a browser would use it."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

DAG_ID = "draenei_content_loader_v4_clean"
BACKFILL = "draenei_backfill"
POLL_SECONDS = 0.2
# Four tasks take 5 s; a killed one is tried again after a delay.
RUN_SECONDS = 90.0
ENDED = {"success", "failed"}


class AirflowApi:
    """A session of one user, about one DAG."""

    def __init__(self, url: str, user: str, password: str, dag_id: str = DAG_ID) -> None:
        self.url = url
        self.dag_id = dag_id
        answer = self._call("POST", "/auth/token", {"username": user, "password": password})
        self._token = answer["access_token"]

    def dag(self) -> dict[str, Any]:
        """Return what Airflow knows of the DAG."""
        return self._call("GET", self._dag_path)

    def import_errors(self) -> list[Any]:
        """Return the errors of all DAG files."""
        errors: list[Any] = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return errors

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs of the DAG."""
        runs: list[dict[str, Any]] = self._call("GET", f"{self._dag_path}/dagRuns")["dag_runs"]
        return runs

    def trigger(self, run_id: str, conf: dict[str, Any] | None = None) -> None:
        """Start a run without a logical date, as a person does; HTTPError where it is refused."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        self._call("POST", f"{self._dag_path}/dagRuns", body)

    def refusal(self, conf: dict[str, Any]) -> str:
        """Return what a person reads whose form is refused."""
        try:
            self.trigger("refused", conf)
        except HTTPError as error:
            return error.read().decode()
        raise AssertionError(f"{conf} was not refused")

    def mark_failed(self, run_id: str) -> None:
        """Mark a run as failed, which stops its tasks."""
        self._call("PATCH", f"{self._dag_path}/dagRuns/{run_id}", {"state": "failed"})

    def wait_run(self, run_id: str) -> str:
        """Return the state in which the run ended, all its tasks included."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            run = self._call("GET", f"{self._dag_path}/dagRuns/{run_id}")
            states = self.task_states(run_id)
            if run["state"] in ENDED and not {"running", "queued", None} & set(states.values()):
                return str(run["state"])
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"{run_id}: {run['state']}, {states}")

    def task_states(self, run_id: str) -> dict[str, str | None]:
        """Return the state of each task of a run."""
        path = f"{self._dag_path}/dagRuns/{run_id}/taskInstances"
        return {it["task_id"]: it["state"] for it in self._call("GET", path)["task_instances"]}

    def story(self, run_id: str) -> str:
        """Return what the tasks that did not succeed have logged, for the reader of a failure."""
        failed = [task for task, state in self.task_states(run_id).items() if state == "failed"]
        tried = [self.log(run_id, task, self.tries(run_id, task)) for task in failed]
        return "\n".join(line for lines in tried for line in lines)

    def tries(self, run_id: str, task_id: str) -> int:
        """Return how often a task was tried."""
        path = f"{self._dag_path}/dagRuns/{run_id}/taskInstances/{task_id}"
        return int(self._call("GET", path)["try_number"])

    def all_attempts(self, run_id: str, task_id: str) -> list[int]:
        """Return how often each instance of a mapped task was tried."""
        path = f"{self._dag_path}/dagRuns/{run_id}/taskInstances"
        instances = self._call("GET", path)["task_instances"]
        return [int(it["try_number"]) for it in instances if it["task_id"] == task_id]

    def xcom(self, run_id: str, task_id: str) -> Any:
        """Return what a task handed over."""
        path = f"{self._dag_path}/dagRuns/{run_id}/taskInstances/{task_id}"
        value = self._call("GET", f"{path}/xcomEntries/return_value?deserialize=true")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def log(self, run_id: str, task_id: str, attempt: int = 1) -> list[str]:
        """Return the lines that a try of a task logged, as the page shows them."""
        path = f"{self._dag_path}/dagRuns/{run_id}/taskInstances/{task_id}"
        content = self._call("GET", f"{path}/logs/{attempt}?full_content=true")["content"]
        return [line["event"] if isinstance(line, dict) else line for line in content]

    @property
    def _dag_path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = Request(self.url + path, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_header("Accept", "application/json")
        if token := getattr(self, "_token", None):
            request.add_header("Authorization", f"Bearer {token}")
        data = None if body is None else json.dumps(body).encode()
        with urlopen(request, data, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
        return answer
