-- A claim costs the same whatever its run has done before. Idempotent, and records itself.

-- step: what is used of the limits of runs
-- How much of a run's limit is used at most: each claim adds what it takes, what failed comes off when
-- it is counted anew. NULL until it is counted.
CREATE TABLE IF NOT EXISTS draenei_content.run_limits (
    audit_id BIGINT PRIMARY KEY REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    used     BIGINT
) WITH (fillfactor = 50);

-- concurrently: images that are due, but for those whose last run has used its attempts
-- These are two (RUN_ATTEMPTS of collector/catalog/transfers.py).
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_transfers_due_unspent
    ON draenei_content.transfers (next_attempt_at, wallpaper_id)
    WHERE state = 'pending' AND run_attempts < 2;

-- concurrently: the same by the run that lists them
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_transfers_listed_unspent
    ON draenei_content.transfers (listed_audit_id, next_attempt_at, wallpaper_id)
    WHERE state = 'pending' AND listed_audit_id IS NOT NULL AND run_attempts < 2;

-- concurrently: the same by the run that has tried them
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_transfers_retry_unspent
    ON draenei_content.transfers (last_audit_id, next_attempt_at)
    WHERE state = 'pending' AND last_audit_id IS NOT NULL AND run_attempts < 2;

-- concurrently: images whose last run has used its attempts, for other runs
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_transfers_spent
    ON draenei_content.transfers (last_audit_id, next_attempt_at)
    WHERE state = 'pending' AND last_audit_id IS NOT NULL AND run_attempts >= 2;

-- step: the new indexes in the old ones' place
DROP INDEX IF EXISTS
draenei_content.ix_transfers_due,
draenei_content.ix_transfers_listed,
draenei_content.ix_transfers_retry;
ALTER INDEX draenei_content.ix_transfers_due_unspent RENAME TO ix_transfers_due;
ALTER INDEX draenei_content.ix_transfers_listed_unspent RENAME TO ix_transfers_listed;
ALTER INDEX draenei_content.ix_transfers_retry_unspent RENAME TO ix_transfers_retry;

-- step: the record
INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (13, '013_claims.sql')
ON CONFLICT DO NOTHING;
