-- name: lock_migrations
-- One migration at a time, until this session unlocks or ends; the key is the first 8 bytes of
-- sha256('draenei_content'). Does not wait: an index that is built concurrently would wait for a
-- session that waits here.
SELECT pg_try_advisory_lock(-7139517994951426200);

-- name: unlock_migrations
-- Another migration may begin.
SELECT pg_advisory_unlock(-7139517994951426200);

-- name: allow_long_statements
-- Remove the time limits of this session that role, database or server set.
SELECT set_config(name, '0', FALSE)
FROM pg_settings
WHERE name IN (
    'statement_timeout', 'lock_timeout', 'transaction_timeout',
    'idle_in_transaction_session_timeout'
);

-- name: restore_limits
-- Restore the time limits that this session began with.
SELECT set_config(name, reset_val || COALESCE(unit, ''), FALSE)
FROM pg_settings
WHERE name IN (
    'statement_timeout', 'lock_timeout', 'transaction_timeout',
    'idle_in_transaction_session_timeout'
);

-- name: wait_briefly
-- This transaction waits at most $1 milliseconds for a lock: other sessions queue behind it.
SELECT set_config('lock_timeout', $1::int::text, TRUE);

-- name: blocking_sessions
-- Sessions that may block a migration: in a transaction for longer than $1 seconds, with a
-- snapshot, a change, or a lock in the schema.
SELECT
    a.pid,
    COALESCE(NULLIF(a.application_name, ''), 'unnamed') AS program,
    a.state,
    extract(EPOCH FROM clock_timestamp() - a.xact_start)::int AS seconds
FROM pg_stat_activity AS a
WHERE a.datname = current_database()
    AND a.pid <> pg_backend_pid()
    AND a.xact_start < clock_timestamp() - make_interval(secs => $1)
    AND (
        a.backend_xmin IS NOT NULL
        OR a.backend_xid IS NOT NULL
        OR EXISTS (
            SELECT FROM pg_locks AS l
            INNER JOIN pg_class AS c ON c.oid = l.relation
            INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE l.pid = a.pid AND l.granted AND n.nspname = 'draenei_content'
        )
    )
ORDER BY a.xact_start
LIMIT 3;

-- name: migrating_session
-- The session that migrates now; no row if it has just ended.
SELECT a.pid, COALESCE(NULLIF(a.application_name, ''), 'unnamed') AS program
FROM pg_locks AS l
INNER JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
    AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND ((l.classid::bigint << 32) | l.objid::bigint) = -7139517994951426200;

-- name: drop_broken_indexes
-- Drop indexes whose concurrent build was cut short: they are unusable and block the next build.
DO $$
DECLARE
    broken regclass;
BEGIN
    FOR broken IN
        SELECT i.indexrelid
        FROM pg_index AS i
        INNER JOIN pg_class AS c ON c.oid = i.indrelid
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'draenei_content' AND NOT i.indisvalid
    LOOP
        EXECUTE format('DROP INDEX %s', broken);
    END LOOP;
END
$$;

-- name: has_migrations
-- Is there a table of migrations?
SELECT to_regclass('draenei_content.schema_migrations') IS NOT NULL;

-- name: applied_migrations
-- Applied versions, and the oldest version whose programs each of them lets use the database; NULL
-- if it names none, or if the column does not exist yet.
SELECT version, (to_jsonb(m) ->> 'compatible_from')::int AS compatible_from
FROM draenei_content.schema_migrations AS m
ORDER BY version;
