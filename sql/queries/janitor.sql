-- name: release_lapsed
-- Claims whose lease has lapsed return to the backlog. After $1 attempts they are dead, with a dead
-- letter of their last run: $2 code, $3 reason. If that run is not closed yet, the letter and the
-- failed attempt count in its audit.
WITH lapsed AS (
    UPDATE draenei_content.transfers SET
        state = CASE WHEN attempts < $1 THEN 'pending' ELSE 'dead' END,
        owner = NULL,
        lease_until = NULL,
        next_attempt_at = now()
    WHERE wallpaper_id IN (
        SELECT wallpaper_id
        FROM draenei_content.transfers
        WHERE state = 'claimed' AND lease_until < now()
        ORDER BY wallpaper_id
        FOR UPDATE SKIP LOCKED
    )
    RETURNING wallpaper_id, attempts, last_audit_id, state
),
-- Locked, so that an audit of one of them counts either before this or after it.
open_runs AS (
    SELECT id
    FROM draenei_content.run_audit
    WHERE status = 'running' AND id IN (SELECT last_audit_id FROM lapsed WHERE state = 'dead')
    FOR SHARE
),
dead AS (
    SELECT l.wallpaper_id, l.attempts, w.wallhaven_id, a.run_id, o.id AS audit_id
    FROM lapsed AS l
    INNER JOIN draenei_content.wallpapers AS w ON w.id = l.wallpaper_id
    LEFT JOIN draenei_content.run_audit AS a ON a.id = l.last_audit_id
    LEFT JOIN open_runs AS o ON o.id = l.last_audit_id
    WHERE l.state = 'dead'
),
noted AS (
    INSERT INTO draenei_content.run_items AS i (
        audit_id, wallpaper_id, outcome, edge, code, is_given_up
    )
    SELECT audit_id, wallpaper_id, 'failed', 'download', $2, TRUE
    FROM dead
    WHERE audit_id IS NOT NULL
    ON CONFLICT (audit_id, wallpaper_id) DO UPDATE SET
        outcome = EXCLUDED.outcome,
        edge = EXCLUDED.edge,
        code = EXCLUDED.code,
        is_given_up = TRUE,
        bytes = 0,
        ended_at = clock_timestamp()
),
lettered AS (
    INSERT INTO draenei_content.dead_letters AS d (
        stage, item, wallhaven_id, code, reason, attempts, audit_id, run_id
    )
    SELECT
        'transfer', wallhaven_id, wallhaven_id, $2, $3, attempts, audit_id,
        COALESCE(run_id, 'unrecorded')
    FROM dead
    ON CONFLICT (stage, item) WHERE resolved_at IS NULL DO UPDATE SET
        attempts = EXCLUDED.attempts,
        last_failed_at = now(),
        audit_id = EXCLUDED.audit_id,
        run_id = EXCLUDED.run_id
)
SELECT
    count(*) FILTER (WHERE state = 'pending')::int AS released,
    count(*) FILTER (WHERE state = 'dead')::int AS dead
FROM lapsed;

-- name: noted_uploads
-- The next $2 multipart uploads noted for wallpapers without a claim, after wallpaper $1.
SELECT t.wallpaper_id AS wallpaper_id, w.wallhaven_id, w.url, w.file_type, t.upload_id
FROM draenei_content.transfers AS t
INNER JOIN draenei_content.wallpapers AS w ON w.id = t.wallpaper_id
WHERE t.upload_id IS NOT NULL AND t.state <> 'claimed' AND t.wallpaper_id > $1
ORDER BY t.wallpaper_id
LIMIT $2;

-- name: forget_upload
-- The upload $2 noted for wallpaper $1 is gone; a newer one stays noted.
UPDATE draenei_content.transfers SET upload_id = NULL WHERE wallpaper_id = $1 AND upload_id = $2;

-- name: claimed_uploads
-- Which of the uploads $1 belong to a live claim?
SELECT upload_id
FROM draenei_content.transfers
WHERE state = 'claimed' AND lease_until >= now() AND upload_id = ANY($1::text[]);

-- name: mark_trimmed
-- Mark up to $2 runs that ended more than $1 days ago as trimmed: from now on their numbers stand
-- and they cannot be resumed. Not the run of an open crawl.
UPDATE draenei_content.run_audit
SET trimmed_at = clock_timestamp()
WHERE id = ANY(ARRAY(
    SELECT a.id
    FROM draenei_content.run_audit AS a
    WHERE a.trimmed_at IS NULL
        AND a.status <> 'running'
        AND a.ended_at < now() - make_interval(days => $1)
        AND NOT EXISTS (
            SELECT FROM draenei_content.crawls AS c
            WHERE c.audit_id = a.id AND c.ended_at IS NULL
        )
    ORDER BY a.id
    LIMIT $2
    FOR NO KEY UPDATE OF a SKIP LOCKED
))
RETURNING id;

-- name: trim_run_items
-- Delete up to $2 outcomes of trimmed runs that ended more than $1 days ago. Here and below, rows
-- are found by `ctid` and in the order of the key: a plan that joins, or takes rows in any order,
-- would read the whole table for each batch.
DELETE FROM draenei_content.run_items
WHERE ctid = ANY(ARRAY(
    SELECT detail.ctid
    FROM draenei_content.run_audit AS a
    CROSS JOIN LATERAL (
        SELECT i.ctid FROM draenei_content.run_items AS i
        WHERE i.audit_id = a.id
        ORDER BY i.wallpaper_id
        LIMIT $2
    ) AS detail
    WHERE a.trimmed_at IS NOT NULL AND a.ended_at < now() - make_interval(days => $1)
    LIMIT $2
))
RETURNING audit_id;

-- name: trim_run_enrichments
-- Delete up to $2 findings of trimmed enrichments that ended more than $1 days ago.
DELETE FROM draenei_content.run_enrichments
WHERE ctid = ANY(ARRAY(
    SELECT detail.ctid
    FROM draenei_content.run_audit AS a
    CROSS JOIN LATERAL (
        SELECT e.ctid FROM draenei_content.run_enrichments AS e
        WHERE e.audit_id = a.id
        ORDER BY e.wallpaper_id
        LIMIT $2
    ) AS detail
    WHERE a.trimmed_at IS NOT NULL AND a.ended_at < now() - make_interval(days => $1)
    LIMIT $2
))
RETURNING audit_id;

-- name: trim_staged_pages
-- Delete up to $2 merged pages of trimmed runs that ended more than $1 days ago. Not a page that an
-- untrimmed run merged, since that run may be recounted; nor one above the gap of a search; nor one
-- newer than an unmerged page, whose merge needs it to find outdated listings.
WITH unmerged AS MATERIALIZED (
    SELECT min(p.fetched_at) AS fetched_at
    FROM draenei_content.staged_pages AS p
    INNER JOIN draenei_content.run_audit AS a ON a.id = p.audit_id
    WHERE p.load_id IS NULL AND a.trimmed_at IS NULL
)
DELETE FROM draenei_content.staged_pages
WHERE ctid = ANY(ARRAY(
    SELECT detail.ctid
    FROM draenei_content.run_audit AS a
    CROSS JOIN LATERAL (
        SELECT p.ctid
        FROM draenei_content.staged_pages AS p
        INNER JOIN draenei_content.run_loads AS l ON l.id = p.load_id
        INNER JOIN draenei_content.run_audit AS merging ON merging.id = l.audit_id
        WHERE p.audit_id = a.id
            AND merging.trimmed_at IS NOT NULL
            AND (p.fetched_at > (SELECT fetched_at FROM unmerged)) IS NOT TRUE
            AND NOT EXISTS (
                SELECT FROM draenei_content.searches AS s
                WHERE s.search_key = p.search_key AND p.audit_id > s.newest_audit_id
            )
        ORDER BY p.page, p.reading
        LIMIT $2
    ) AS detail
    WHERE a.trimmed_at IS NOT NULL AND a.ended_at < now() - make_interval(days => $1)
    LIMIT $2
))
RETURNING audit_id;

-- name: trim_run_loads
-- Delete up to $2 loads of trimmed runs that ended more than $1 days ago. Not one that the ledger
-- names: a page without its load would be merged again.
DELETE FROM draenei_content.run_loads
WHERE ctid = ANY(ARRAY(
    SELECT detail.ctid
    FROM draenei_content.run_audit AS a
    CROSS JOIN LATERAL (
        SELECT l.ctid FROM draenei_content.run_loads AS l
        WHERE l.audit_id = a.id
            AND NOT EXISTS (SELECT FROM draenei_content.staged_pages AS p WHERE p.load_id = l.id)
        LIMIT $2
    ) AS detail
    WHERE a.trimmed_at IS NOT NULL AND a.ended_at < now() - make_interval(days => $1)
    LIMIT $2
))
RETURNING audit_id;

-- name: trim_dead_letters
-- Delete up to $2 dead letters, of trimmed runs or of none, that were resolved more than $1 days
-- ago.
DELETE FROM draenei_content.dead_letters
WHERE ctid = ANY(ARRAY(
    SELECT d.ctid
    FROM draenei_content.dead_letters AS d
    LEFT JOIN draenei_content.run_audit AS a ON a.id = d.audit_id
    WHERE d.resolved_at < now() - make_interval(days => $1)
        AND (d.audit_id IS NULL OR a.trimmed_at IS NOT NULL)
    LIMIT $2
))
RETURNING id;
