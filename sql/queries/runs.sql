-- name: open_run
-- Begin or resume a run: $1 dag_id, $2 run_id, $3 logical_date. Returns its id; no row if its
-- details are trimmed.
INSERT INTO draenei_content.run_audit AS a (dag_id, run_id, logical_date, started_at, status)
VALUES ($1, $2, $3, clock_timestamp(), 'running')
ON CONFLICT (dag_id, run_id) DO UPDATE SET
    status = 'running',
    ended_at = NULL,
    heartbeat_at = clock_timestamp(),
    updated_at = clock_timestamp(),
    logical_date = COALESCE(EXCLUDED.logical_date, a.logical_date)
WHERE a.trimmed_at IS NULL
RETURNING a.id;

-- name: find_run
-- The id of the run with dag_id $1 and run_id $2.
SELECT id FROM draenei_content.run_audit WHERE dag_id = $1 AND run_id = $2;

-- name: run_heartbeat
-- Note that the process of run $1 is alive.
UPDATE draenei_content.run_audit SET heartbeat_at = clock_timestamp() WHERE id = $1;

-- name: begin_stage
-- A stage of run $1 begins: $2 stage, $3 worker. If the run extracts again, the reports of
-- additional transfer workers are deleted: there may be fewer workers now.
WITH alive AS (
    UPDATE draenei_content.run_audit
    SET heartbeat_at = clock_timestamp(), audited_at = NULL
    WHERE id = $1
),
over AS (
    DELETE FROM draenei_content.run_stages
    WHERE audit_id = $1 AND stage = 'transfer' AND worker > 0 AND $2 = 'extract'
)
INSERT INTO draenei_content.run_stages AS s (audit_id, stage, worker, status, started_at)
VALUES ($1, $2, $3, 'running', clock_timestamp())
ON CONFLICT (audit_id, stage, worker) DO UPDATE SET
    status = 'running',
    attempts = s.attempts + 1,
    ended_at = NULL,
    problem = NULL;

-- name: end_stage
-- A stage of run $1 ended: $2 stage, $3 worker, $4 status, $5 report, $6 problem.
WITH went_on AS (
    UPDATE draenei_content.run_audit
    SET heartbeat_at = clock_timestamp(), audited_at = NULL
    WHERE id = $1
)
INSERT INTO draenei_content.run_stages (
    audit_id, stage, worker, status, ended_at, report, problem
)
VALUES ($1, $2, $3, $4, clock_timestamp(), $5, $6)
ON CONFLICT (audit_id, stage, worker) DO UPDATE SET
    status = EXCLUDED.status,
    ended_at = EXCLUDED.ended_at,
    report = EXCLUDED.report,
    problem = EXCLUDED.problem;

-- name: running_stages
-- How many stages of run $1 have begun and not ended.
SELECT count(*)::int
FROM draenei_content.run_stages
WHERE audit_id = $1 AND status = 'running';

-- name: recount
-- Count from the tables what run $1 did; `loaded` counts its metadata. A stage of several workers
-- lists them; a problem that several of them had appears once. Other runs change the backlog, so a
-- repeated audit reports its first counts of it, unless the run was resumed since.
SELECT
    items.*,
    stages.*,
    reports.*,
    problems.*,
    enrichments.*,
    backlog.*
FROM (
    SELECT
        count(*) FILTER (WHERE outcome = 'uploaded')::int AS images_uploaded,
        count(*) FILTER (WHERE outcome = 'adopted')::int  AS images_adopted,
        COALESCE(sum(bytes) FILTER (WHERE outcome = 'uploaded'), 0)::bigint AS bytes_uploaded,
        count(*) FILTER (WHERE outcome = 'failed' AND edge = 'download')::int
            AS download_failures,
        count(*) FILTER (WHERE outcome = 'failed' AND edge = 'upload')::int AS upload_failures,
        count(*) FILTER (WHERE is_given_up)::int AS images_dead
    FROM draenei_content.run_items
    WHERE audit_id = $1
) AS items,
(
    SELECT
        COALESCE(sum(api_requests), 0)::int AS api_requests,
        COALESCE(bool_or(status IN ('failed', 'running')), FALSE) AS any_failed,
        COALESCE(bool_or(status = 'running'), FALSE) AS any_running,
        COALESCE(bool_or(status = 'interrupted'), FALSE) AS any_interrupted
    FROM draenei_content.run_stages
    WHERE audit_id = $1 AND stage <> 'audit'
) AS stages,
(
    SELECT
        COALESCE(
            jsonb_object_agg(
                stage,
                CASE WHEN workers = 1 THEN list -> 0 ELSE jsonb_build_object('workers', list) END
            ),
            '{}'
        ) AS stage_reports
    FROM (
        SELECT
            stage,
            count(*) AS workers,
            jsonb_agg(report || jsonb_build_object('status', status) ORDER BY worker) AS list
        FROM draenei_content.run_stages
        WHERE audit_id = $1 AND stage <> 'audit'
        GROUP BY stage
    ) AS by_stage
) AS reports,
(
    SELECT string_agg(stage || ': ' || problem, '; ' ORDER BY first_at) AS problems
    FROM (
        SELECT stage, COALESCE(problem, 'did not end') AS problem, min(started_at) AS first_at
        FROM draenei_content.run_stages
        WHERE audit_id = $1 AND stage <> 'audit' AND status <> 'succeeded'
        GROUP BY 1, 2
    ) AS distinct_problems
) AS problems,
(
    SELECT jsonb_build_object(
        'enriched', count(*) FILTER (WHERE outcome = 'enriched'),
        'missing', count(*) FILTER (WHERE outcome = 'missing'),
        'unusable', count(*) FILTER (WHERE outcome = 'unusable'),
        'tags', COALESCE(sum(tags), 0),
        'rejected_tags', COALESCE(sum(rejected_tags), 0)
    ) AS enrichment
    FROM draenei_content.run_enrichments
    WHERE audit_id = $1
) AS enrichments,
(
    SELECT
        CASE
            WHEN audited_at IS NOT NULL THEN missing_s3_after_run
            ELSE (SELECT count(*) FROM draenei_content.wallpapers WHERE s3_key IS NULL)
        END AS missing_s3_after_run,
        CASE
            WHEN audited_at IS NOT NULL AND report ?| '{claimed_by_others,in_other_hands}'
                THEN COALESCE(report ->> 'claimed_by_others', report ->> 'in_other_hands')::int
            ELSE (SELECT count(*)::int FROM draenei_content.transfers WHERE state = 'claimed')
        END AS claimed_by_others
    FROM draenei_content.run_audit
    WHERE id = $1
) AS backlog;

-- name: silent_runs
-- Runs except $1 with status running and no heartbeat for $2 seconds if a stage is running, or for
-- $3 seconds if they wait for their next stage.
SELECT a.id AS audit_id, a.heartbeat_at AS heard_at
FROM draenei_content.run_audit AS a
WHERE a.id <> $1
    AND a.status = 'running'
    AND a.heartbeat_at < now() - make_interval(secs => CASE
        WHEN EXISTS (
            SELECT FROM draenei_content.run_stages AS s
            WHERE s.audit_id = a.id AND s.status = 'running'
        ) THEN $2::double precision
        ELSE $3::double precision
    END)
ORDER BY a.id;

-- name: lock_silent_run
-- Lock run $1, whose last heartbeat was at $2. No row if it has had another heartbeat, has ended,
-- or is being closed by another process.
SELECT TRUE
FROM draenei_content.run_audit
WHERE id = $1 AND status = 'running' AND heartbeat_at = $2
FOR UPDATE SKIP LOCKED;

-- name: close_run
-- Write the audit of run $1: $2 status, $3 notes, $4 report, $5 to $15 the counters. No row if its
-- details are trimmed: they cannot be counted again.
UPDATE draenei_content.run_audit SET
    status = $2,
    notes = $3,
    report = $4,
    metadata_inserted = $5,
    metadata_updated = $6,
    metadata_unchanged = $7,
    metadata_invalid = $8,
    images_uploaded = $9,
    images_adopted = $10,
    bytes_uploaded = $11,
    download_failures = $12,
    upload_failures = $13,
    missing_s3_after_run = $14,
    api_requests = $15,
    ended_at = last.ended_at,
    audited_at = last.audited_at,
    duration_seconds = round(GREATEST(
        0, extract(EPOCH FROM last.ended_at - started_at)), 3)::double precision,
    updated_at = clock_timestamp()
FROM (
    -- A run ends with its last stage, so a repeated audit gives the same time. A crashed run ended
    -- with its last heartbeat.
    SELECT
        CASE
            WHEN $2 = 'crashed' THEN GREATEST(max(s.ended_at), max(a.heartbeat_at))
            ELSE COALESCE(max(s.ended_at), min(written.audited_at))
        END AS ended_at,
        min(written.audited_at) AS audited_at
    FROM draenei_content.run_audit AS a
    CROSS JOIN LATERAL (
        SELECT COALESCE(a.audited_at, clock_timestamp()) AS audited_at
    ) AS written
    LEFT JOIN draenei_content.run_stages AS s ON s.audit_id = a.id
    WHERE a.id = $1
) AS last
WHERE id = $1 AND trimmed_at IS NULL
RETURNING
    dag_id, run_id, logical_date, started_at, run_audit.ended_at, duration_seconds,
    metadata_inserted, metadata_updated, metadata_unchanged, metadata_invalid,
    images_uploaded, images_adopted, bytes_uploaded, download_failures, upload_failures,
    missing_s3_after_run, api_requests, status, notes, report;

-- name: audit_row
-- The audit row of run $1.
SELECT
    dag_id, run_id, logical_date, started_at, ended_at, duration_seconds,
    metadata_inserted, metadata_updated, metadata_unchanged, metadata_invalid,
    images_uploaded, images_adopted, bytes_uploaded, download_failures, upload_failures,
    missing_s3_after_run, api_requests, status, notes, report
FROM draenei_content.run_audit
WHERE id = $1;

-- name: stored_by
-- How many images run $1 has stored or adopted, since $2 (NULL: in all).
SELECT count(*)::int
FROM draenei_content.run_items
WHERE audit_id = $1
    AND outcome IN ('uploaded', 'adopted')
    AND ended_at >= COALESCE($2::timestamptz, '-infinity');

-- name: last_runs
-- The newest $1 runs.
SELECT
    dag_id, run_id, status, started_at, duration_seconds, metadata_inserted, metadata_updated,
    images_uploaded, images_adopted, bytes_uploaded, download_failures, upload_failures, notes
FROM draenei_content.run_audit
ORDER BY started_at DESC NULLS LAST, id DESC
LIMIT $1;

-- name: stored_recently
-- Images and bytes stored in the last $1 seconds.
SELECT count(*) AS images, COALESCE(sum(object_bytes), 0)::bigint AS bytes
FROM draenei_content.wallpapers
WHERE stored_at > now() - make_interval(secs => $1);

-- name: holdings
-- Wallpapers of any search, and those whose image is stored.
SELECT count(*) AS known_wallpapers, count(s3_key) AS stored_images
FROM draenei_content.wallpapers;
