-- name: lock_migrations
-- One migration at a time; the key is the first 8 bytes of sha256('draenei_content').
SELECT pg_advisory_xact_lock(-7139517994951426200);

-- name: has_migrations
-- Is there a table of migrations?
SELECT to_regclass('draenei_content.schema_migrations') IS NOT NULL;

-- name: applied_migrations
-- Versions that are applied.
SELECT version FROM draenei_content.schema_migrations ORDER BY version;
