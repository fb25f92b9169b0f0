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
SELECT t.wallpaper_id AS wallpaper_key, w.wallhaven_id, w.url, w.file_type, t.upload_id
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
