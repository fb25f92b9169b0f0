"""Mirror one Wallhaven search every day; `airflow tasks test` and the trigger form work too.

Each task calls one stage of the collector, and the tasks hand over through PostgreSQL. XCom carries
counts. The collector is imported inside the tasks, so that this file is parsed quickly and needs
neither network nor settings.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task

if TYPE_CHECKING:
    from airflow.sdk import DagRunProtocol

# Processes that share the transfer of one run; more than one make it a mapped task.
TRANSFER_WORKERS = int(os.environ.get("TRANSFER_WORKERS") or 1)
BUCKET_NAME = os.environ.get("BUCKET_NAME") or "draenei-collector"

TABLE = Asset("draenei_content.wallpapers")
IMAGES = Asset("draenei_images", uri=f"s3://{BUCKET_NAME}/wallpapers")

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
        # As many as the API's 45 a minute allow within the hour of the task's timeout.
        maximum=2500,
        title="Pages",
        description="Pages to read at most, 24 wallpapers each. Empty: WALLHAVEN_MAX_PAGES.",
    ),
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Limit",
        description="Images to store in this run at most; 0: no limit. Empty: UPLOAD_BATCH_LIMIT.",
    ),
    "only": Param(
        False,
        type="boolean",
        title="Only this search",
        description="Store only images that the pages of this run list. Off: then the backlog too.",
    ),
    "in_flight": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=1024,
        title="In flight",
        description="Images in transfer at once, in each worker. Empty: COLLECTOR_IN_FLIGHT.",
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
    # COLLECTOR_LEASE_SECONDS, so that claims of a killed attempt have expired.
    default_args={"retries": 2, "retry_policy": RETRY_POLICY},
    # No dagrun_timeout: it would skip the audit. Each task has its own.
    doc_md=__doc__,
)
def draenei_content_loader_v4_clean() -> None:
    """Four tasks in sequence; the audit also runs if another task failed."""

    # One at a time, even if an Airflow backfill starts many runs: they share the API's limit.
    @task(execution_timeout=timedelta(hours=1), max_active_tis_per_dag=1)
    def extract_metadata(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Read the pages of the search that are new, newest first, into staging.

        It keeps to Wallhaven's rate limit. A page is done once it is committed: a retry reads only
        the pages that are missing.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("extract", settings_for(params), run_of(dag_run))

    @task(execution_timeout=timedelta(hours=1), outlets=[TABLE])
    def load_metadata_to_db(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Merge staged rows into `draenei_content.wallpapers`, a few thousand at a time.

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
        number of workers may share it. If the task is marked failed or cleared, it releases its
        claims and aborts its multipart uploads. It fails if it gives up on more than
        COLLECTOR_MAX_DEAD_PERCENT of the images.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage(
            "transfer", settings_for(params), run_of(dag_run, worker), only=bool(params.get("only"))
        )

    @task(execution_timeout=timedelta(minutes=10))
    def audit_run(dag_run: DagRunProtocol) -> dict[str, int]:
        """Recount what the run did and write its row of `draenei_content.run_audit`.

        A teardown: it always runs, also if the run was marked failed, and its success does not
        hide the failure of another task.
        """
        from collector.runtime.scheduled import run_of, run_stage, settings_for

        return run_stage("audit", settings_for(), run_of(dag_run))

    if TRANSFER_WORKERS > 1:
        transfer = download_and_upload_to_s3.expand(worker=list(range(TRANSFER_WORKERS)))
    else:
        transfer = download_and_upload_to_s3(0)
    extract_metadata() >> load_metadata_to_db() >> transfer >> audit_run().as_teardown()


draenei_content_loader_v4_clean()
