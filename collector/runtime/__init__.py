"""The composition root: open the world, run stages on it."""

from collector.runtime.backfilling import (
    BACKFILL_NEEDS,
    BackfillOptions,
    find_crawl,
    is_over,
    run_backfill,
    run_for,
)
from collector.runtime.opening import (
    Need,
    RunOptions,
    Runtime,
    open_runtime,
    s3_options,
    source_of,
    whole_list,
)
from collector.runtime.running import (
    ENRICHMENT,
    STAGE_NEEDS,
    run_all_stages,
    run_one_stage,
    run_stage_alone,
)
from collector.runtime.scheduled import (
    run_of,
    run_stage,
    settings_for,
    tidy_up,
    verify_bucket,
)
from collector.runtime.slices import SlicePlan, audit_backfill, plan_slices, run_slice
from collector.runtime.wiring import (
    DEFAULT_ENRICHMENTS,
    PLAN_NEEDS,
    UPKEEP_NEEDS,
    JanitorOptions,
    run_janitor,
    run_plan,
    run_verify,
)

__all__ = [
    "BACKFILL_NEEDS",
    "DEFAULT_ENRICHMENTS",
    "ENRICHMENT",
    "PLAN_NEEDS",
    "STAGE_NEEDS",
    "UPKEEP_NEEDS",
    "BackfillOptions",
    "JanitorOptions",
    "Need",
    "RunOptions",
    "Runtime",
    "SlicePlan",
    "audit_backfill",
    "find_crawl",
    "is_over",
    "open_runtime",
    "plan_slices",
    "run_all_stages",
    "run_backfill",
    "run_for",
    "run_janitor",
    "run_of",
    "run_one_stage",
    "run_plan",
    "run_slice",
    "run_stage",
    "run_stage_alone",
    "run_verify",
    "s3_options",
    "settings_for",
    "source_of",
    "tidy_up",
    "verify_bucket",
    "whole_list",
]
