-- name: open_dead_letters
-- Open dead letters with code $1 (NULL: any), the oldest first.
SELECT
    id, stage, wallhaven_id, code, reason, attempts, first_failed_at, last_failed_at, run_id,
    resolved_at
FROM draenei_content.dead_letters
WHERE resolved_at IS NULL AND ($1::text IS NULL OR code = $1)
ORDER BY first_failed_at, id;

-- name: lock_dead_letters
-- Lock open dead letters with code $1 (NULL: any) that are named in $2 (NULL: all): by item, such
-- as a wallhaven_id, or by their own id if no item has that name.
WITH named AS MATERIALIZED (SELECT DISTINCT name FROM unnest($2::text[]) AS given (name)),
by_item AS MATERIALIZED (
    SELECT d.id, d.item
    FROM named
    INNER JOIN draenei_content.dead_letters AS d ON d.item = named.name
    WHERE d.resolved_at IS NULL
),
by_number AS (
    SELECT d.id
    FROM named
    INNER JOIN draenei_content.dead_letters AS d ON d.id::text = named.name
    LEFT JOIN by_item ON by_item.item = named.name
    WHERE d.resolved_at IS NULL AND by_item.id IS NULL
),
chosen AS (
    SELECT id FROM draenei_content.dead_letters WHERE resolved_at IS NULL AND $2 IS NULL
    UNION
    SELECT id FROM by_item
    UNION
    SELECT id FROM by_number
)
SELECT
    d.id, stage, wallhaven_id, code, reason, attempts, first_failed_at, last_failed_at, run_id,
    resolved_at, item
FROM chosen
INNER JOIN draenei_content.dead_letters AS d USING (id)
WHERE d.resolved_at IS NULL AND ($1::text IS NULL OR d.code = $1)
ORDER BY d.id
FOR UPDATE OF d;

-- name: resolve_dead_letters
-- Close the dead letters $1.
UPDATE draenei_content.dead_letters SET resolved_at = clock_timestamp() WHERE id = ANY($1::bigint[]);

-- name: requeue_transfers
-- Make the given-up wallpapers $1 due again, with all their attempts.
UPDATE draenei_content.transfers SET
    state = 'pending',
    next_attempt_at = now(),
    attempts = 0,
    run_attempts = 0,
    last_audit_id = NULL
WHERE state = 'dead'
    AND wallpaper_id IN (
        SELECT id FROM draenei_content.wallpapers WHERE wallhaven_id = ANY($1::text[])
    );
