"""Ask Wallhaven about wallpapers one by one, for their tags and uploaders, every day.

The most valuable come first: those with the most favourites of which nothing is known yet, later
those that were asked about long ago. Requests of the other DAG go first; what a run does not come
to, the next one does. Paused until you unpause it: it asks up to 500 further calls a day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import (
    Asset,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    dag,
    task,
)

if TYPE_CHECKING:
    from airflow.sdk import DagRunProtocol

TABLE = Asset("draenei_content.wallpaper_tags")

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
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Limit",
        description="Most wallpapers to ask about in this run. Empty: 500.",
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
    # No dagrun_timeout: it would skip the audit. Each task has a limit of its own.
    doc_md=__doc__,
)
def draenei_enrichment() -> None:
    """One task; the audit also runs when it failed."""

    # Long: it waits while others need the API.
    @task(execution_timeout=timedelta(hours=12), outlets=[TABLE], max_active_tis_per_dag=1)
    def enrich_wallpapers(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Ask about wallpapers within Wallhaven's rate limit, and write what it says of them.

        Answers count once they are committed, a few at a time: a retry goes on behind them.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("enrich", settings_for(), run_of(dag_run), limit=params["limit"])

    @task(execution_timeout=timedelta(minutes=10))
    def audit_run(dag_run: DagRunProtocol) -> dict[str, int]:
        """Count anew what the run did and write its row of `draenei_content.run_audit`.

        A teardown: it runs whatever became of the other, and leaves the run as failed as it is.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("audit", settings_for(), run_of(dag_run))

    enrich_wallpapers() >> audit_run().as_teardown()


draenei_enrichment()
