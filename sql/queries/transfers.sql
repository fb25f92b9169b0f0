-- name: reap_leases
-- Claims whose lease has lapsed return to the backlog; after $1 attempts they are dead.
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
RETURNING wallpaper_id, attempts, state = 'dead' AS is_dead;

-- name: claim
-- Run $1 claims up to $4 due items for owner $2, each at most $3 times in this run; the lease lasts
-- $5 seconds. Items that its own pages list go first; if $6, no others are claimed. The attempt is
-- counted here, so that a crash counts.
WITH own AS (
    SELECT wallpaper_id
    FROM draenei_content.transfers
    WHERE state = 'pending'
        AND next_attempt_at <= now()
        AND listed_audit_id = $1
        -- As in the indexes, so that items without attempts left are not read ($3 is 2).
        AND run_attempts < 2
        AND run_attempts < $3
    ORDER BY next_attempt_at, wallpaper_id
    LIMIT $4
    FOR UPDATE SKIP LOCKED
),
others AS (
    SELECT wallpaper_id
    FROM draenei_content.transfers
    WHERE NOT $6
        AND state = 'pending'
        AND next_attempt_at <= now()
        AND listed_audit_id IS DISTINCT FROM $1
        AND run_attempts < 2
        AND run_attempts < $3
    ORDER BY next_attempt_at, wallpaper_id
    LIMIT $4 - (SELECT count(*) FROM own)
    FOR UPDATE SKIP LOCKED
),
-- Items that have used up the attempts of another run come last, those of the oldest runs first.
spent AS (
    SELECT other.wallpaper_id
    FROM (VALUES (0::bigint, $1 - 1), ($1 + 1, 9223372036854775807)) AS runs (first_id, last_id)
    CROSS JOIN LATERAL (
        SELECT wallpaper_id
        FROM draenei_content.transfers
        WHERE state = 'pending'
            AND next_attempt_at <= now()
            AND run_attempts >= 2
            AND last_audit_id IS NOT NULL
            AND last_audit_id BETWEEN runs.first_id AND runs.last_id
        ORDER BY last_audit_id, next_attempt_at
        LIMIT $4
        FOR UPDATE SKIP LOCKED
    ) AS other
    WHERE NOT $6
    LIMIT $4 - (SELECT count(*) FROM own) - (SELECT count(*) FROM others)
),
due AS (
    SELECT wallpaper_id FROM own
    UNION ALL
    SELECT wallpaper_id FROM others
    UNION ALL
    SELECT wallpaper_id FROM spent
),
claimed AS (
    UPDATE draenei_content.transfers SET
        state = 'claimed',
        owner = $2,
        fence = fence + 1,
        lease_until = clock_timestamp() + make_interval(secs => $5),
        attempts = attempts + 1,
        run_attempts = CASE WHEN last_audit_id = $1 THEN run_attempts + 1 ELSE 1 END,
        last_audit_id = $1
    -- An array and LIMIT force look-ups by key: in a join with an unknown number of rows, the
    -- planner would read both tables.
    WHERE wallpaper_id = ANY(ARRAY(SELECT wallpaper_id FROM due))
    RETURNING *
),
used AS (
    UPDATE draenei_content.run_limits
    SET used = used + (SELECT count(*) FROM claimed)
    WHERE audit_id = $1
)
SELECT
    t.last_audit_id AS audit_id, t.wallpaper_id AS wallpaper_id, t.owner, t.fence,
    t.attempts AS attempt, t.listed_audit_id IS NOT DISTINCT FROM $1 AS is_own, w.wallhaven_id,
    w.url, w.file_type, w.file_size, w.dimension_x, w.dimension_y, w.object_sha256,
    t.upload_id AS stale_upload_id
FROM claimed AS t
CROSS JOIN LATERAL (
    SELECT * FROM draenei_content.wallpapers WHERE id = t.wallpaper_id LIMIT 1
) AS w;

-- name: mark_listed
-- Mark images that the merged pages of run $1 list and that are not stored yet, so that this run
-- claims them first, even if an ended run has used up its attempts at them. Rows that the run
-- itself added are marked from the beginning.
UPDATE draenei_content.transfers AS t
SET
    listed_audit_id = $1,
    run_attempts = CASE
        WHEN EXISTS (
            SELECT FROM draenei_content.run_audit AS a
            WHERE a.id = t.last_audit_id AND (a.id = $1 OR a.status = 'running')
        ) THEN run_attempts
        ELSE 0
    END
WHERE t.wallpaper_id IN (
    SELECT b.wallpaper_id
    FROM draenei_content.staged_pages AS p
    CROSS JOIN unnest(p.ids) AS listed (wallhaven_id)
    -- LIMIT forces look-ups by key, whatever sizes the planner assumes.
    CROSS JOIN LATERAL (
        SELECT k.id FROM draenei_content.wallpapers AS k
        WHERE k.wallhaven_id = listed.wallhaven_id AND k.s3_key IS NULL LIMIT 1
    ) AS w
    CROSS JOIN LATERAL (
        SELECT k.wallpaper_id FROM draenei_content.transfers AS k
        WHERE k.wallpaper_id = w.id
            AND (
                k.listed_audit_id IS DISTINCT FROM $1
                OR (k.run_attempts >= 2 AND k.last_audit_id <> $1)
            )
        LIMIT 1
    ) AS b
    WHERE p.audit_id = $1
);

-- name: heartbeat
-- Extend the leases of the claims ($1 wallpaper, $2 owner, $3 fence) to $4 seconds from now;
-- returns those that still hold.
UPDATE draenei_content.transfers AS t
SET lease_until = clock_timestamp() + make_interval(secs => $4)
FROM unnest($1::bigint[], $2::uuid[], $3::bigint[]) AS c (wallpaper_id, owner, fence)
WHERE t.wallpaper_id = c.wallpaper_id AND t.owner = c.owner AND t.fence = c.fence
RETURNING t.wallpaper_id;

-- name: journal_upload
-- Note the multipart upload $4 of a claim ($1 wallpaper, $2 owner, $3 fence).
UPDATE draenei_content.transfers
SET upload_id = $4
WHERE wallpaper_id = $1 AND owner = $2 AND fence = $3
RETURNING wallpaper_id;

-- name: confirm
-- The object of a claim ($1 wallpaper, $2 owner, $3 fence) is stored: $4 run, $5 s3_key, $6 sha256,
-- $7 bytes, $8 outcome; it came from URL $9, with type $10 and size $11. If a listing has brought
-- another URL since the claim, that is noted as pending. Nothing happens if the claim is lost.
WITH owned AS (
    DELETE FROM draenei_content.transfers
    WHERE wallpaper_id = $1 AND owner = $2 AND fence = $3
    RETURNING wallpaper_id
),
stored AS (
    UPDATE draenei_content.wallpapers AS w
    SET
        s3_key = $5, object_sha256 = $6, object_bytes = $7, stored_at = clock_timestamp(),
        url = $9, pending_url = NULLIF(w.url, $9), file_type = $10, file_size = $11
    FROM owned
    WHERE w.id = owned.wallpaper_id
    RETURNING w.id, w.wallhaven_id
),
noted AS (
    INSERT INTO draenei_content.run_items AS i (audit_id, wallpaper_id, outcome, bytes)
    SELECT $4, id, $8, $7 FROM stored
    ON CONFLICT (audit_id, wallpaper_id) DO UPDATE SET
        outcome = EXCLUDED.outcome,
        edge = NULL,
        code = NULL,
        is_given_up = FALSE,
        bytes = EXCLUDED.bytes,
        attempts = i.attempts + 1,
        ended_at = clock_timestamp()
),
released AS (
    DELETE FROM draenei_content.quarantined_objects AS q
    USING stored
    WHERE q.s3_key = $5
),
resolved AS (
    UPDATE draenei_content.dead_letters AS d
    SET resolved_at = clock_timestamp()
    FROM stored
    WHERE d.stage = 'transfer' AND d.item = stored.wallhaven_id AND d.resolved_at IS NULL
)
SELECT id FROM stored;

-- name: postpone
-- An attempt of a claim ($1 wallpaper, $2 owner, $3 fence) failed in run $4 at edge $5 with code
-- $6; due again in $7 seconds.
WITH released AS (
    UPDATE draenei_content.transfers SET
        state = 'pending',
        owner = NULL,
        lease_until = NULL,
        next_attempt_at = clock_timestamp() + make_interval(secs => $7)
    WHERE wallpaper_id = $1 AND owner = $2 AND fence = $3
    RETURNING wallpaper_id
)
INSERT INTO draenei_content.run_items AS i (audit_id, wallpaper_id, outcome, edge, code)
SELECT $4, wallpaper_id, 'failed', $5, $6 FROM released
ON CONFLICT (audit_id, wallpaper_id) DO UPDATE SET
    outcome = EXCLUDED.outcome,
    edge = EXCLUDED.edge,
    code = EXCLUDED.code,
    is_given_up = FALSE,
    bytes = 0,
    attempts = i.attempts + 1,
    ended_at = clock_timestamp()
RETURNING wallpaper_id;

-- name: give_up
-- A claim ($1 wallpaper, $2 owner, $3 fence) is given up in run $4 at edge $5: $6 code,
-- $7 reason.
WITH given_up AS (
    UPDATE draenei_content.transfers SET
        state = 'dead', owner = NULL, lease_until = NULL
    WHERE wallpaper_id = $1 AND owner = $2 AND fence = $3
    RETURNING wallpaper_id, attempts
),
noted AS (
    INSERT INTO draenei_content.run_items AS i (
        audit_id, wallpaper_id, outcome, edge, code, is_given_up
    )
    SELECT $4, wallpaper_id, 'failed', $5, $6, TRUE FROM given_up
    ON CONFLICT (audit_id, wallpaper_id) DO UPDATE SET
        outcome = EXCLUDED.outcome,
        edge = EXCLUDED.edge,
        code = EXCLUDED.code,
        is_given_up = TRUE,
        bytes = 0,
        attempts = i.attempts + 1,
        ended_at = clock_timestamp()
)
INSERT INTO draenei_content.dead_letters AS d (
    stage, item, wallhaven_id, code, reason, attempts, audit_id, run_id
)
SELECT 'transfer', w.wallhaven_id, w.wallhaven_id, $6, $7, g.attempts, a.id, a.run_id
FROM given_up AS g
INNER JOIN draenei_content.wallpapers AS w ON w.id = g.wallpaper_id
INNER JOIN draenei_content.run_audit AS a ON a.id = $4
ON CONFLICT (stage, item) WHERE resolved_at IS NULL DO UPDATE SET
    code = EXCLUDED.code,
    reason = EXCLUDED.reason,
    attempts = EXCLUDED.attempts,
    last_failed_at = now(),
    audit_id = EXCLUDED.audit_id,
    run_id = EXCLUDED.run_id
RETURNING d.id;

-- name: give_up_exhausted
-- Items ($1 wallpapers) whose process died in every attempt, found by run $2: $3 code, $4 reason.
WITH noted AS (
    INSERT INTO draenei_content.run_items AS i (
        audit_id, wallpaper_id, outcome, edge, code, is_given_up
    )
    SELECT $2, wallpaper_id, 'failed', 'download', $3, TRUE
    FROM unnest($1::bigint[]) AS d (wallpaper_id)
    ON CONFLICT (audit_id, wallpaper_id) DO UPDATE SET
        outcome = EXCLUDED.outcome,
        edge = EXCLUDED.edge,
        code = EXCLUDED.code,
        is_given_up = TRUE,
        bytes = 0,
        ended_at = clock_timestamp()
)
INSERT INTO draenei_content.dead_letters AS d (
    stage, item, wallhaven_id, code, reason, attempts, audit_id, run_id
)
SELECT 'transfer', w.wallhaven_id, w.wallhaven_id, $3, $4, t.attempts, a.id, a.run_id
FROM draenei_content.transfers AS t
INNER JOIN draenei_content.wallpapers AS w ON w.id = t.wallpaper_id
INNER JOIN draenei_content.run_audit AS a ON a.id = $2
WHERE t.wallpaper_id = ANY($1::bigint[])
ON CONFLICT (stage, item) WHERE resolved_at IS NULL DO UPDATE SET
    attempts = EXCLUDED.attempts,
    last_failed_at = now(),
    audit_id = EXCLUDED.audit_id,
    run_id = EXCLUDED.run_id;

-- name: release
-- Release claims ($1 wallpapers, $2 owners, $3 fences) and refund their attempts.
UPDATE draenei_content.transfers AS t SET
    state = 'pending',
    owner = NULL,
    lease_until = NULL,
    next_attempt_at = now(),
    attempts = GREATEST(t.attempts - 1, 0),
    run_attempts = GREATEST(t.run_attempts - 1, 0)
FROM unnest($1::bigint[], $2::uuid[], $3::bigint[]) AS c (wallpaper_id, owner, fence)
WHERE t.wallpaper_id = c.wallpaper_id AND t.owner = c.owner AND t.fence = c.fence;

-- name: lock_blamed
-- Items of run $1 whose last attempt failed with one of the codes $2 and that are not claimed.
-- Backlog row and outcome are locked together: other workers of the run may be active.
SELECT t.wallpaper_id
FROM draenei_content.transfers AS t
INNER JOIN draenei_content.run_items AS i USING (wallpaper_id)
WHERE t.last_audit_id = $1
    AND t.state IN ('pending', 'dead')
    AND i.audit_id = $1
    AND i.outcome = 'failed'
    AND i.code = ANY($2::text[])
ORDER BY t.wallpaper_id
FOR UPDATE OF t, i;

-- name: refund_outage
-- An edge was down in run $1, so the items $2 that failed with the codes $3 are not to blame:
-- refund their attempts of this run, make them due again, and delete the dead letters.
WITH refunded AS (
    UPDATE draenei_content.transfers SET
        state = 'pending',
        next_attempt_at = now(),
        attempts = GREATEST(attempts - run_attempts, 0),
        run_attempts = 0
    WHERE wallpaper_id = ANY($2::bigint[])
    RETURNING wallpaper_id
),
taken_back AS (
    UPDATE draenei_content.run_items AS i
    SET is_given_up = FALSE
    FROM refunded AS r
    WHERE i.audit_id = $1 AND i.wallpaper_id = r.wallpaper_id AND i.is_given_up
)
DELETE FROM draenei_content.dead_letters AS d
USING refunded AS r
INNER JOIN draenei_content.wallpapers AS w ON w.id = r.wallpaper_id
WHERE d.stage = 'transfer'
    AND d.item = w.wallhaven_id
    AND d.audit_id = $1
    AND d.code = ANY($3::text[])
    AND d.resolved_at IS NULL;

-- name: next_due_seconds
-- When run $1 may claim again: one of its items that it attempted fewer than $2 times, or one whose
-- lease lapses within $4 seconds (NULL: at any time) unless it is renewed. If $3, only claimed
-- items that its own pages list count.
SELECT extract(EPOCH FROM min(due_at) - now())::double precision
FROM (
    SELECT min(next_attempt_at) AS due_at
    FROM draenei_content.transfers
    -- As in the index, so that items without attempts left are not read ($2 is 2).
    WHERE state = 'pending' AND last_audit_id = $1 AND run_attempts < 2 AND run_attempts < $2
    UNION ALL
    SELECT min(lease_until)
    FROM draenei_content.transfers
    WHERE state = 'claimed'
        AND lease_until <= COALESCE(now() + make_interval(secs => $4), 'infinity')
        AND NOT ($3 AND listed_audit_id IS DISTINCT FROM $1)
) AS next_ones;

-- name: lock_enlisting
-- One at a time: with an older snapshot, a process would add rows again that others have added and
-- stored meanwhile.
SELECT pg_advisory_xact_lock(hashtextextended('draenei_content.transfers', 0));

-- name: enlist
-- Add rows without an object to the backlog, whichever program inserted them.
INSERT INTO draenei_content.transfers (wallpaper_id)
SELECT w.id
FROM draenei_content.wallpapers AS w
LEFT JOIN draenei_content.transfers AS t ON t.wallpaper_id = w.id
WHERE w.s3_key IS NULL AND t.wallpaper_id IS NULL
ON CONFLICT DO NOTHING;

-- name: known_good
-- The newest $2 images that were stored from URLs beginning with $1, among the newest $3: if their
-- host does not deliver even these, the host is the cause.
SELECT url, object_bytes AS size_bytes
FROM (
    SELECT url, object_bytes, stored_at
    FROM draenei_content.wallpapers
    WHERE stored_at IS NOT NULL
    ORDER BY stored_at DESC
    LIMIT $3
) AS newest
WHERE starts_with(url, $1)
ORDER BY stored_at DESC
LIMIT $2;

-- name: lock_limit
-- Lock the limit of run $1, so that its workers claim one after the other. Returns an upper bound
-- of its use, NULL if not counted yet.
INSERT INTO draenei_content.run_limits AS l (audit_id)
VALUES ($1)
ON CONFLICT (audit_id) DO UPDATE SET used = l.used
RETURNING used;

-- name: note_limit_use
-- Note that $2 of the limit of run $1 is used.
UPDATE draenei_content.run_limits SET used = $2 WHERE audit_id = $1;

-- name: limit_bound
-- The upper bound of the use of the limit of run $1; no row, or NULL: not counted yet.
SELECT used FROM draenei_content.run_limits WHERE audit_id = $1;

-- name: limit_use
-- The use of the limit of run $1: images that it has stored or adopted, images that its workers
-- have claimed, and the wait until the first of these claims may lapse.
SELECT
    (
        SELECT count(*)::int
        FROM draenei_content.run_items
        WHERE audit_id = $1 AND outcome IN ('uploaded', 'adopted')
    ) AS stored,
    count(*)::int AS claimed,
    extract(EPOCH FROM min(lease_until) - now())::double precision AS lapse_seconds
FROM draenei_content.transfers
WHERE state = 'claimed' AND last_audit_id = $1;

-- name: due_images
-- How many due or claimed images the pages of run $1 list, how many others, and how many it has
-- attempted.
SELECT
    count(*) FILTER (WHERE listed_audit_id IS NOT DISTINCT FROM $1)::int AS own,
    count(*) FILTER (WHERE listed_audit_id IS DISTINCT FROM $1)::int     AS others,
    (SELECT count(*)::int FROM draenei_content.run_items WHERE audit_id = $1) AS tried
FROM draenei_content.transfers
WHERE state = 'claimed' OR (state = 'pending' AND next_attempt_at <= now());

-- name: backlog
-- Items without an object, by state.
SELECT
    count(*) FILTER (WHERE state = 'pending' AND next_attempt_at <= now())::int AS pending,
    count(*) FILTER (WHERE state = 'claimed')::int AS claimed,
    count(*) FILTER (WHERE state = 'pending' AND next_attempt_at > now())::int AS waiting,
    count(*) FILTER (WHERE state = 'dead')::int AS dead
FROM draenei_content.transfers;

-- name: stored_objects
-- The newest $1 stored wallpapers (NULL: all).
SELECT wallhaven_id, url, s3_key, object_sha256, object_bytes
FROM draenei_content.wallpapers
WHERE stored_at IS NOT NULL
ORDER BY stored_at DESC, id DESC
LIMIT $1::bigint;
