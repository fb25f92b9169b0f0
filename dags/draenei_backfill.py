"""Mirror a whole list of Wallhaven, oldest first, in slices; trigger it by hand.

It first says what that will cost. A slice reads so many pages and stores their images; one that
fails is tried again by itself. Another run with the same form goes on where the last one stopped,
and once the list was read to its end does nothing but say so. Requests of the daily DAG go first.
"""

from __future__ import annotations

import os
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
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

# Airflow refuses to map over more: the default of its `[core] max_map_length`.
MOST_SLICES = 1024
BUCKET_NAME = os.environ.get("BUCKET_NAME") or "draenei-collector"

TABLE = Asset("draenei_content.wallpapers")
IMAGES = Asset("draenei_images", uri=f"s3://{BUCKET_NAME}/wallpapers")

# Repeating mends outages. It mends neither settings, credentials and buckets nor a run with too
# many dead letters.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[
                "collector.core.errors.Refusal",
                "collector.core.errors.SettingsError",
                "collector.core.errors.SchemaMissing",
                "collector.core.errors.OtherSearch",
                "collector.core.errors.QuestionIgnored",
                "collector.core.errors.RunFailed",
            ],
            action=RetryAction.FAIL,
            reason="the same call again would fail the same way",
        )
    ]
)

FORM = {
    "query": Param(
        None,
        type=["null", "string"],
        maxLength=500,
        title="Query",
        description="What to search for; * for everything. Empty: WALLHAVEN_QUERY.",
    ),
    "collection": Param(
        None,
        type=["null", "string"],
        maxLength=120,
        title="Collection",
        description="A collection, USER/ID, instead of a search. Empty: WALLHAVEN_COLLECTION, "
        "unless there is a query.",
    ),
    "from_page": Param(
        1,
        type=["null", "integer"],
        minimum=1,
        title="From page",
        description="First page of the list, oldest first, 24 wallpapers each. Empty: 1.",
    ),
    "to_page": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="To page",
        description="Last page. Empty: to the end of the list.",
    ),
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Limit",
        description="Most images to store in this run. Empty or 0: no limit.",
    ),
    "pages_per_slice": Param(
        450,
        type=["null", "integer"],
        minimum=1,
        title="Pages per slice",
        description="Pages that one task reads; 450 are ten minutes of the API's 45 requests a "
        f"minute. More where there would be over {MOST_SLICES} slices.",
    ),
    "again": Param(
        False,
        type=["null", "boolean"],
        title="Again",
        description="Read anew a list that was read to its end; nothing is stored twice.",
    ),
}


@dag(
    schedule=None,
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=FORM,
    tags=["draenei", "wallhaven"],
    # The delay between tries is Airflow's `default_task_retry_delay`, 300 s. It is longer than
    # COLLECTOR_LEASE_SECONDS: what a killed try had in its hands is free for the next one.
    default_args={"retries": 2, "retry_policy": RETRY_POLICY},
    # No dagrun_timeout: it would skip the audit. Each task has a limit of its own.
    doc_md=__doc__,
)
def draenei_backfill() -> None:
    """A plan, slices one after the other, and the audit, also when one of the others failed."""

    @task(execution_timeout=timedelta(hours=1))
    def plan_backfill(
        params: dict[str, Any], dag_run: DagRunProtocol, ti: RuntimeTaskInstanceProtocol
    ) -> list[dict[str, int]]:
        """Say what is left to read, and divide it into slices; none where nothing is.

        The XCom `plan` holds what the list costs.
        """
        from collector.runtime.scheduled import run_of
        from collector.runtime.slices import plan_slices

        plan = plan_slices(params, run_of(dag_run), MOST_SLICES)
        ti.xcom_push("plan", plan.counts)
        return plan.slices

    # Less weight than a transfer of the daily DAG, which waits for the same pool.
    @task(
        execution_timeout=timedelta(hours=12),
        outlets=[TABLE, IMAGES],
        pool="draenei_transfers",
        max_active_tis_per_dag=1,
        priority_weight=1,
        weight_rule="absolute",
        # Airflow shows no docstring of a task that is mapped.
        doc_md="""Read so many more pages of the list, merge them, and stream their images.

        Goes on where the last one stopped, whichever that was. Marked failed, or cleared, it hands
        its claims back and aborts its multipart uploads. Counts are those of the crawl until then.
        """,
    )
    def mirror_slices(
        pages: int, stored_before: int, params: dict[str, Any], dag_run: DagRunProtocol
    ) -> dict[str, int]:
        """Mirror one slice, as the documentation of the task says."""
        from collector.runtime.scheduled import run_of
        from collector.runtime.slices import run_slice

        return run_slice(params, run_of(dag_run), pages, stored_before)

    @task(execution_timeout=timedelta(minutes=10))
    def audit_run(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Count anew what the crawl did and write its row of `draenei_content.run_audit`.

        A crawl has one row, under the id of the run that began it. A teardown: it runs whatever
        became of the others, also when the run was marked failed, and leaves the run as failed as
        they made it.
        """
        from collector.runtime.scheduled import run_of
        from collector.runtime.slices import audit_backfill

        return audit_backfill(params, run_of(dag_run))

    mirror_slices.expand_kwargs(plan_backfill()) >> audit_run().as_teardown()


draenei_backfill()
