"""Mirror a whole list of Wallhaven, oldest first; trigger it by hand.

It first logs what that will cost. If an outage ends an attempt, Airflow retries it for hours.
Another run with the same form resumes where the last one stopped. Once the list was read to its
end, it only says so. Requests of the daily DAG go first.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task

if TYPE_CHECKING:
    from airflow.sdk import DagRunProtocol

BUCKET_NAME = os.environ.get("BUCKET_NAME") or "draenei-collector"

TABLE = Asset("draenei_content.wallpapers")
IMAGES = Asset("draenei_images", uri=f"s3://{BUCKET_NAME}/wallpapers")

# A retry helps after an outage, not if a person has to change something first.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[
                "collector.core.errors.NotRetryable",
                "collector.core.errors.QuestionIgnored",
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
        description="Images to store in this run at most. Empty or 0: no limit.",
    ),
    "again": Param(
        False,
        type=["null", "boolean"],
        title="Again",
        description="Read a complete list again; nothing is stored twice.",
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
    # The first delay is Airflow's `default_task_retry_delay`, 300 s. It is longer than
    # COLLECTOR_LEASE_SECONDS, so that claims of a killed attempt have expired. It doubles
    # each time, up to an hour: twelve retries outlast an outage of nine hours.
    default_args={
        "retries": 12,
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(hours=1),
        "retry_policy": RETRY_POLICY,
    },
    doc_md=__doc__,
)
def draenei_backfill() -> None:
    """One task, which resumes where the last one stopped."""

    # Its own pool, so that a backfill and a daily transfer do not wait for each other. No
    # execution_timeout: a large list takes days, and each wait inside is limited.
    @task(outlets=[TABLE, IMAGES], pool="draenei_backfills")
    def mirror_list(params: dict[str, Any], dag_run: DagRunProtocol) -> dict[str, int]:
        """Read the list, merge its pages, and stream their images at the same time.

        It first logs what that costs. A retry resumes where the last attempt stopped. On any exit
        it releases its claims, aborts its multipart uploads and writes the row of
        `draenei_content.run_audit`: a crawl has one, under the id of the run that began it. If it
        is killed, the next attempt does that. The XCom has the counts of the plan (`plan_...`) and
        of the crawl so far.
        """
        from collector.runtime.scheduled import backfill

        return backfill(params, dag_run)

    mirror_list()


draenei_backfill()
