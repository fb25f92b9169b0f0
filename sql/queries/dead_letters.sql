-- name: open_dead_letters
-- What is given up on with code $1 (NULL: any), the longest first.
SELECT
    id, stage, wallhaven_id, code, reason, attempts, first_failed_at, last_failed_at, run_id,
    resolved_at
FROM draenei_content.dead_letters
WHERE resolved_at IS NULL AND ($1::text IS NULL OR code = $1)
ORDER BY first_failed_at, id;

-- name: lock_dead_letters
-- Open dead letters with code $1 (NULL: any) that $2 names (NULL: all of them): by the item, such as
-- a wallpaper's id, or by their own number where no item has that name.
SELECT
    id, stage, wallhaven_id, code, reason, attempts, first_failed_at, last_failed_at, run_id,
    resolved_at, item
FROM draenei_content.dead_letters AS d
WHERE resolved_at IS NULL
    AND ($1::text IS NULL OR code = $1)
    AND (
        $2::text[] IS NULL
        OR item = ANY($2)
        OR (
            id::text = ANY($2)
            AND NOT EXISTS (
                SELECT FROM draenei_content.dead_letters AS named
                WHERE named.resolved_at IS NULL AND named.item = d.id::text
            )
        )
    )
ORDER BY id
FOR UPDATE;

-- name: resolve_dead_letters
-- The dead letters $1 are closed.
UPDATE draenei_content.dead_letters SET resolved_at = clock_timestamp() WHERE id = ANY($1::bigint[]);

-- name: revive_transfers
-- The wallpapers $1, which were given up, are due again, as if they had never been tried.
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
