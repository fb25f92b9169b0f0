"""Tidy up after processes that died, and compare the bucket with the tables, every week.

The first task releases claims of the dead, closes crashed runs with their true numbers, drops
stale multipart uploads, and trims details of runs that ended more than `keep_days` days ago: their
rows in `draenei_content.run_audit` stay. The second walks bucket and table side by side and is red
where they differ; its log names the differences. With `repair` it sends for missing images again,
adopts what is ours, and lists strange objects in `draenei_content.quarantined_objects`. Nothing is
deleted from the bucket. Not on by default: a bucket that was emptied by mistake is for a person to
look at.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule, TriggerRule, dag, task

# Repeating mends outages, and nothing that a person has to change first.
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
        description="Days for which details of runs are kept. 0 keeps them for ever.",
    ),
    "deep": Param(
        False,
        type="boolean",
        title="Deep",
        description="Read every object and compare its sha256. It costs a GET for each of them.",
    ),
    "repair": Param(
        False,
        type="boolean",
        title="Repair",
        description="Put right what can be: fetch again, adopt, quarantine. Deletes nothing.",
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
    """Two tasks; the second also runs where the first one failed."""

    @task(execution_timeout=timedelta(hours=1))
    def tidy_up(params: dict[str, Any]) -> dict[str, int]:
        """Release what dead processes hold, close their runs, drop their uploads, trim old runs.

        Safe beside runs that are under way: what a live process holds is left alone.
        """
        from collector.runtime.scheduled import settings_for, tidy_up

        return tidy_up(settings_for(), keep_days=params["keep_days"])

    @task(execution_timeout=timedelta(hours=12), trigger_rule=TriggerRule.ALL_DONE)
    def verify_bucket(params: dict[str, Any]) -> dict[str, int]:
        """Compare every object under `wallpapers/` with every row that names one, both ways.

        Red where they differ and that was not put right.
        """
        from collector.runtime.scheduled import settings_for, verify_bucket

        return verify_bucket(settings_for(), deep=params["deep"], repair=params["repair"])

    tidy_up() >> verify_bucket()


draenei_maintenance()
