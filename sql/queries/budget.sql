-- name: make_slots
-- Create the budget of API $1 with $2 slots.
WITH made AS (
    INSERT INTO draenei_content.api_budgets (scope) VALUES ($1) ON CONFLICT DO NOTHING
)
INSERT INTO draenei_content.api_slots (scope, slot)
SELECT $1, generate_series(1, $2::int)
ON CONFLICT DO NOTHING;

-- name: take_slot
-- Take a slot of API $1, or return the expected wait. $2: maximum of slots, $3: slots that are
-- reserved for others, $4: priority, $5: holder, $6: seconds of a lease, $7: seconds of a window,
-- $8: seconds for which a waiter is remembered, $9: seconds that no stored time exceeds, unless the
-- clock was set back. $10 to $12: run, stage and worker for which the request is counted, or NULL.
WITH instant AS MATERIALIZED (
    SELECT
        clock_timestamp()                             AS now,
        clock_timestamp() + make_interval(secs => $9) AS farthest
),
budget AS MATERIALIZED (
    SELECT
        i.*,
        limits.slots - LEAST($3::int, limits.slots / 2) AS most,
        GREATEST(
            CASE WHEN b.paused_until <= i.farthest THEN b.paused_until END,
            (
                SELECT max(w.wanted_until)
                FROM draenei_content.api_waiters AS w
                WHERE w.scope = $1 AND w.priority < $4 AND w.wanted_until <= i.farthest
            )
        ) AS closed_until
    FROM instant AS i
    LEFT JOIN draenei_content.api_budgets AS b ON b.scope = $1
    CROSS JOIN LATERAL (SELECT LEAST($2::int, b.announced_limit) AS slots) AS limits
),
busy AS MATERIALIZED (
    SELECT count(*) AS slots, min(s.free_at) AS first_free_at
    FROM draenei_content.api_slots AS s
    CROSS JOIN instant AS i
    WHERE s.scope = $1 AND s.free_at > i.now AND s.free_at <= i.farthest
),
free AS (
    SELECT s.slot
    FROM draenei_content.api_slots AS s
    CROSS JOIN budget AS b
    WHERE
        s.scope = $1
        AND s.slot <= b.most
        AND (s.free_at <= b.now OR s.free_at > b.farthest)
        AND (b.closed_until IS NULL OR b.closed_until <= b.now)
        -- After the limit was lowered, slots above it may still be busy.
        AND (SELECT busy.slots FROM busy) < b.most
    ORDER BY s.slot
    LIMIT 1
    FOR UPDATE OF s SKIP LOCKED
),
taken AS (
    UPDATE draenei_content.api_slots AS s
    SET holder = $5, taken_at = i.now, free_at = i.now + make_interval(secs => $6)
    FROM free, instant AS i
    WHERE s.scope = $1 AND s.slot = free.slot
    RETURNING s.slot
),
counted AS (
    UPDATE draenei_content.run_stages
    SET api_requests = api_requests + 1
    WHERE audit_id = $10 AND stage = $11 AND worker = $12 AND EXISTS (SELECT FROM taken)
),
waiting AS (
    INSERT INTO draenei_content.api_waiters AS w (scope, priority, wanted_until)
    SELECT $1, $4, b.now + make_interval(secs => $8)
    FROM budget AS b
    WHERE
        NOT EXISTS (SELECT FROM taken)
        AND EXISTS (SELECT FROM draenei_content.api_budgets WHERE scope = $1)
    ON CONFLICT (scope, priority) DO UPDATE SET wanted_until = EXCLUDED.wanted_until
)
SELECT
    (SELECT taken.slot FROM taken) AS slot,
    EXISTS (
        SELECT FROM draenei_content.api_slots AS s WHERE s.scope = $1 AND s.slot = $2
    ) AS is_made,
    extract(EPOCH FROM GREATEST(
        b.closed_until - b.now,
        -- A request in flight frees its slot one window after its end, not before.
        CASE
            WHEN busy.slots >= b.most
                THEN LEAST(busy.first_free_at - b.now, make_interval(secs => $7))
        END,
        '0'
    ))::double precision AS wait_seconds
FROM budget AS b, busy;

-- name: return_slot
-- Holder $2 has sent no request to API $1: free its slot, and do not count the request for run $3,
-- stage $4, worker $5.
WITH returned AS (
    UPDATE draenei_content.api_slots
    SET holder = NULL, free_at = 'epoch'
    WHERE scope = $1 AND holder = $2
    RETURNING slot
)
UPDATE draenei_content.run_stages
SET api_requests = api_requests - 1
WHERE audit_id = $3 AND stage = $4 AND worker = $5 AND EXISTS (SELECT FROM returned);

-- name: end_slot
-- The request of slot $2 of API $1, holder $3, has ended: the slot is free after $4 seconds. The
-- API has announced limit $5 and $6 remaining requests (NULL: not announced; the last announced
-- limit is kept). `unseen`: how many requests the API counts that this table does not, with maximum
-- $7. All requests in flight at any time since this one was sent count as known: their window is
-- not over for the server either.
WITH ended AS (
    UPDATE draenei_content.api_slots
    SET holder = NULL, free_at = clock_timestamp() + make_interval(secs => $4)
    WHERE scope = $1 AND slot = $2 AND holder = $3
    RETURNING taken_at
),
noted AS (
    UPDATE draenei_content.api_budgets
    SET announced_limit = $5::int
    WHERE scope = $1 AND $5::int IS NOT NULL AND announced_limit IS DISTINCT FROM $5::int
)
SELECT
    ended.taken_at,
    LEAST($7::int, $5::int) - $6::int - (
        SELECT count(*)::int
        FROM draenei_content.api_slots AS s
        WHERE s.scope = $1 AND s.free_at > ended.taken_at
    ) AS unseen
FROM ended;

-- name: lock_budget
-- Serialize the marking of slots of API $1.
SELECT FROM draenei_content.api_budgets WHERE scope = $1 FOR UPDATE;

-- name: mark_slots
-- API $1 announced $3 of $2 requests remaining, in answer to a request sent at $4. Requests that it
-- counts and this table does not are from other clients: block as many slots for $5 seconds.
UPDATE draenei_content.api_slots AS s
SET free_at = clock_timestamp() + make_interval(secs => $5)
FROM (
    SELECT slot
    FROM draenei_content.api_slots
    WHERE scope = $1 AND free_at <= clock_timestamp()
    ORDER BY slot
    LIMIT GREATEST(0, $2::int - $3::int - (
        SELECT count(*)::int
        FROM draenei_content.api_slots AS known
        WHERE known.scope = $1 AND known.free_at > $4
    ))
    FOR UPDATE SKIP LOCKED
) AS free
WHERE s.scope = $1 AND s.slot = free.slot;

-- name: pause_budget
-- Grant no slot of API $1 for $2 seconds; a longer pause stays. A pause beyond $3 seconds was
-- written before the clock was set back.
UPDATE draenei_content.api_budgets
SET paused_until = GREATEST(
    CASE
        WHEN paused_until <= clock_timestamp() + make_interval(secs => $3) THEN paused_until
    END,
    clock_timestamp() + make_interval(secs => $2)
)
WHERE scope = $1;
