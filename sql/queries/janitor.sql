-- name: release_lapsed
-- Claims whose lease has lapsed go back to the backlog; after $1 attempts they are dead, with a dead
-- letter of the run that had them last: $2 code, $3 reason. Where that run has not been closed yet,
-- the letter and the failed try count in its audit.
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
-- Locked: who closes one of them counts before this, or after it.
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
-- Multipart uploads that were noted for wallpapers which nobody has in hand, behind wallpaper $1:
-- the next $2.
SELECT t.wallpaper_id AS wallpaper_id, w.wallhaven_id, w.url, w.file_type, t.upload_id
FROM draenei_content.transfers AS t
INNER JOIN draenei_content.wallpapers AS w ON w.id = t.wallpaper_id
WHERE t.upload_id IS NOT NULL AND t.state <> 'claimed' AND t.wallpaper_id > $1
ORDER BY t.wallpaper_id
LIMIT $2;

-- name: forget_upload
-- The upload $2 that was noted for wallpaper $1 is gone; a newer one stays noted.
UPDATE draenei_content.transfers SET upload_id = NULL WHERE wallpaper_id = $1 AND upload_id = $2;

-- name: uploads_in_hand
-- Which of the uploads $1 belong to a claim that lives?
SELECT upload_id
FROM draenei_content.transfers
WHERE state = 'claimed' AND lease_until >= now() AND upload_id = ANY($1::text[]);

-- name: mark_trimmed
-- Runs that ended more than $1 days ago, $2 at most: their numbers stand from now on, and none of them
-- goes on. Not the run of a crawl that is open.
WITH old AS (
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
),
marked AS (
    UPDATE draenei_content.run_audit
    SET trimmed_at = clock_timestamp()
    WHERE id = ANY(ARRAY(SELECT id FROM old))
    RETURNING id
)
SELECT count(*)::int FROM marked;

-- name: trim_run_items
-- Outcomes of trimmed runs that ended more than $1 days ago, $2 at most.
WITH trimmed AS (
    DELETE FROM draenei_content.run_items
    -- By their place, and in the order of the key: a plan that joins, or takes any rows, would read the
    -- whole table for each batch.
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
    RETURNING 1
)
SELECT count(*)::int FROM trimmed;

-- name: trim_run_enrichments
-- What trimmed runs that ended more than $1 days ago have learned, $2 rows at most.
WITH trimmed AS (
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
    RETURNING 1
)
SELECT count(*)::int FROM trimmed;

-- name: trim_staged_pages
-- Merged pages that trimmed runs have read which ended more than $1 days ago, $2 at most. Not a page
-- that another run merged whose numbers may be counted again, nor one above the gap of a search, nor
-- one that tells a page which is not merged yet that its listing is outdated.
WITH unmerged AS MATERIALIZED (
    SELECT min(p.fetched_at) AS fetched_at
    FROM draenei_content.staged_pages AS p
    INNER JOIN draenei_content.run_audit AS a ON a.id = p.audit_id
    WHERE p.load_id IS NULL AND a.trimmed_at IS NULL
),
trimmed AS (
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
    RETURNING 1
)
SELECT count(*)::int FROM trimmed;

-- name: trim_run_loads
-- Loads of trimmed runs that ended more than $1 days ago, $2 at most. Not one that the ledger names: a
-- page without its load would be merged again.
WITH trimmed AS (
    DELETE FROM draenei_content.run_loads
    WHERE ctid = ANY(ARRAY(
        SELECT detail.ctid
        FROM draenei_content.run_audit AS a
        CROSS JOIN LATERAL (
            SELECT l.ctid
            FROM draenei_content.run_loads AS l
            WHERE l.audit_id = a.id
                AND NOT EXISTS (
                    SELECT FROM draenei_content.staged_pages AS p WHERE p.load_id = l.id
                )
            LIMIT $2
        ) AS detail
        WHERE a.trimmed_at IS NOT NULL AND a.ended_at < now() - make_interval(days => $1)
        LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*)::int FROM trimmed;

-- name: trim_dead_letters
-- Dead letters that were resolved more than $1 days ago, $2 at most, of trimmed runs or of none.
WITH trimmed AS (
    DELETE FROM draenei_content.dead_letters
    WHERE ctid = ANY(ARRAY(
        SELECT d.ctid
        FROM draenei_content.dead_letters AS d
        LEFT JOIN draenei_content.run_audit AS a ON a.id = d.audit_id
        WHERE d.resolved_at < now() - make_interval(days => $1)
            AND (d.audit_id IS NULL OR a.trimmed_at IS NOT NULL)
        LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*)::int FROM trimmed;
