"""Mirror one Wallhaven search every day; `airflow tasks test` and the trigger form work too.

Thin on purpose: each task calls one stage of the collector, and the tasks hand over through
Postgres. XCom carries counts. The collector is imported inside the tasks, so that this file is
parsed in no time and needs neither network nor settings.
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

# Processes that share the transfer of one run; above 1 it becomes a mapped task.
TRANSFER_WORKERS = int(os.environ.get("TRANSFER_WORKERS") or 1)
BUCKET_NAME = os.environ.get("BUCKET_NAME") or "draenei-collector"

TABLE = Asset("draenei_content.wallpapers")
IMAGES = Asset("draenei_images", uri=f"s3://{BUCKET_NAME}/wallpapers")

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
    "pages": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        # An hour at the API's 45 a minute, the limit of the task.
        maximum=2500,
        title="Pages",
        description="Most pages to read, 24 wallpapers each. Empty: WALLHAVEN_MAX_PAGES.",
    ),
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Limit",
        description="Most images to store in this run; 0: no limit. Empty: UPLOAD_BATCH_LIMIT.",
    ),
    "only": Param(
        False,
        type="boolean",
        title="Only this search",
        description="Leave images alone that the pages of this run do not list. Off: they follow.",
    ),
    "in_flight": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=1024,
        title="In flight",
        description="Images on their way at once, in each worker. Empty: COLLECTOR_IN_FLIGHT.",
    ),
}


@dag(
    schedule="@daily",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=FORM,
    tags=["draenei", "wallhaven"],
    # The delay between attempts is Airflow's `default_task_retry_delay`, 300 s. It is longer than
    # COLLECTOR_LEASE_SECONDS: what a killed attempt had claimed is free for the next one.
    default_args={"retries": 2, "retry_policy": RETRY_POLICY},
    # No dagrun_timeout: it would skip the audit. Each task has a limit of its own.
    doc_md=__doc__,
)
def draenei_content_loader_v4_clean() -> None:
    """Four tasks in line; the audit also runs when one of the others failed."""

    # One at a time, however many runs a backfill starts at once: the API counts them together.
    @task(execution_timeout=timedelta(hours=1), max_active_tis_per_dag=1)
    def extract_metadata(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Read the pages of the search that are new, newest first, into staging.

        Within Wallhaven's rate limit. A page counts once it is committed: a retry goes on with
        the pages that are missing.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("extract", settings_for(params), run_of(dag_run))

    @task(execution_timeout=timedelta(hours=1), outlets=[TABLE])
    def load_metadata_to_db(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Merge what is staged into `draenei_content.wallpapers`, a few thousand rows at a time.

        Rows that do not validate are kept as dead letters, with the reason.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("load", settings_for(params), run_of(dag_run))

    @task(execution_timeout=timedelta(hours=12), outlets=[IMAGES], pool="draenei_transfers")
    def download_and_upload_to_s3(
        worker: int, params: dict[str, Any], dag_run: DagRunProtocol
    ) -> dict[str, int]:
        """Stream the images that are missing into the bucket, and check each byte.

        Images of this run's pages go first. They are claimed one by one from the backlog, so any
        number of workers may share it.
        Marked failed, or cleared, it releases its claims and aborts its multipart uploads. It fails
        if it gives up on more than COLLECTOR_MAX_DEAD_PERCENT of the images.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage(
            "transfer", settings_for(params), run_of(dag_run, worker), only=bool(params.get("only"))
        )

    @task(execution_timeout=timedelta(minutes=10))
    def audit_run(dag_run: DagRunProtocol) -> dict[str, int]:
        """Count anew what the run did and write its row of `draenei_content.run_audit`.

        A teardown: it runs whatever became of the others, also when the run was marked failed,
        and leaves the run as failed as they made it.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("audit", settings_for(), run_of(dag_run))

    if TRANSFER_WORKERS > 1:
        transfer = download_and_upload_to_s3.expand(worker=list(range(TRANSFER_WORKERS)))
    else:
        transfer = download_and_upload_to_s3(0)
    extract_metadata() >> load_metadata_to_db() >> transfer >> audit_run().as_teardown()


draenei_content_loader_v4_clean()
