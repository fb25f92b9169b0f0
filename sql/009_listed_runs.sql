-- Images of a run's own pages go first. Idempotent, and records itself.

-- step: which run lists a wallpaper
-- The run whose pages listed the wallpaper last; NULL where that is not known. No reference: a run's
-- row may go, and a number that means nothing any more only says "not mine" to every other run.
ALTER TABLE draenei_content.transfers ADD COLUMN IF NOT EXISTS listed_audit_id BIGINT;

-- concurrently: images that are due, by that run
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_transfers_listed
    ON draenei_content.transfers (listed_audit_id, next_attempt_at, wallpaper_id)
    WHERE state = 'pending' AND listed_audit_id IS NOT NULL;

-- step: the record
INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (9, '009_listed_runs.sql')
ON CONFLICT DO NOTHING;
