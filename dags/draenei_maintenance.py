"""Clean up after processes that died, and compare the bucket with the tables, every week.

The first task releases expired claims, closes crashed runs with recounted numbers, aborts stale
multipart uploads, and trims details of runs that ended more than `keep_days` days ago: their rows
in `draenei_content.run_audit` stay. The second task compares bucket and tables, and fails if they
differ; its log names the differences. With `repair` it requeues missing images, adopts objects with
a known hash, and lists unknown objects in `draenei_content.quarantined_objects`. Nothing is deleted
from the bucket. `repair` is off by default, so that a person looks first at a bucket that was
emptied by mistake.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule, TriggerRule, dag, task

# A retry helps after an outage, not if a person has to change something first.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="collector.core.errors.NotRetryable",
            action=RetryAction.FAIL,
            reason="the same call again would fail the same way",
        )
    ]
)

FORM = {
    "keep_days": Param(
        400,
        type="integer",
        minimum=0,
        title="Keep days",
        description="Days to keep details of runs. 0 keeps them for ever.",
    ),
    "deep": Param(
        False,
        type="boolean",
        title="Deep",
        description="Read every object and compare its sha256. Costs one GET for each object.",
    ),
    "repair": Param(
        False,
        type="boolean",
        title="Repair",
        description="Repair what can be: requeue, adopt, quarantine. Deletes nothing.",
    ),
}


@dag(
    schedule="@weekly",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=FORM,
    tags=["draenei", "wallhaven"],
    default_args={"retries": 2, "retry_policy": RETRY_POLICY},
    doc_md=__doc__,
)
def draenei_maintenance() -> None:
    """Two tasks; the second also runs if the first one failed."""

    @task(execution_timeout=timedelta(hours=1))
    def tidy_up(params: dict[str, Any]) -> dict[str, int]:
        """Release claims of dead processes, close their runs, abort their uploads, trim old runs.

        Safe while runs are active: claims and uploads of live processes are left alone.
        """
        from collector.runtime.scheduled import settings_for, tidy_up

        return tidy_up(settings_for(), keep_days=params["keep_days"])

    @task(execution_timeout=timedelta(hours=12), trigger_rule=TriggerRule.ALL_DONE)
    def verify_bucket(params: dict[str, Any]) -> dict[str, int]:
        """Compare every object under `wallpapers/` with every row that names one, both ways.

        Fails if they differ and were not repaired.
        """
        from collector.runtime.scheduled import settings_for, verify_bucket

        return verify_bucket(settings_for(), deep=params["deep"], repair=params["repair"])

    tidy_up() >> verify_bucket()


draenei_maintenance()
