"""Ask Wallhaven about wallpapers one by one, for their tags and uploaders, every day.

Wallpapers without an answer come first, those with the most favourites before others; then those
with the oldest answers. Requests of the daily DAG go first; the next run asks about what is left.
It is paused until you unpause it, because it makes up to 500 more API calls a day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task

if TYPE_CHECKING:
    from airflow.sdk import DagRunProtocol

TABLE = Asset("draenei_content.wallpaper_tags")

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
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Limit",
        description="Wallpapers to ask about in this run at most. Empty: 500.",
    ),
}


@dag(
    schedule="@daily",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    params=FORM,
    tags=["draenei", "wallhaven"],
    default_args={"retries": 2, "retry_policy": RETRY_POLICY},
    # No dagrun_timeout: it would skip the audit. Each task has its own.
    doc_md=__doc__,
)
def draenei_enrichment() -> None:
    """One task and the audit, which also runs if the task failed."""

    # Long, because it waits while other callers need the API.
    @task(execution_timeout=timedelta(hours=12), outlets=[TABLE], max_active_tis_per_dag=1)
    def enrich_wallpapers(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Ask about wallpapers within Wallhaven's rate limit, and save the answers.

        Answers are committed a few at a time: a retry resumes after the last of them.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("enrich", settings_for(), run_of(dag_run), limit=params["limit"])

    @task(execution_timeout=timedelta(minutes=10))
    def audit_run(dag_run: DagRunProtocol) -> dict[str, int]:
        """Recount what the run did and write its row of `draenei_content.run_audit`.

        A teardown: it always runs, and its success does not hide the failure of the other task.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("audit", settings_for(), run_of(dag_run))

    enrich_wallpapers() >> audit_run().as_teardown()


draenei_enrichment()
