-- What a run gave up on is told by its own rows, and an audit that is repeated says the same.
-- Idempotent, and records itself.

-- step: columns
-- The item's last attempt in this run was the last of all: it became a dead letter. What becomes of
-- that letter later changes nothing here.
ALTER TABLE draenei_content.run_items
    ADD COLUMN IF NOT EXISTS is_given_up BOOLEAN NOT NULL DEFAULT FALSE;

-- When the audit was written; NULL since a stage of the run has begun or ended after it. While it
-- is set, a repeated audit keeps what the first one said of the backlog.
ALTER TABLE draenei_content.run_audit ADD COLUMN IF NOT EXISTS audited_at TIMESTAMPTZ;

-- step: what was given up before
UPDATE draenei_content.run_items AS i
SET is_given_up = TRUE
FROM draenei_content.dead_letters AS d
INNER JOIN draenei_content.wallpapers AS w ON w.wallhaven_id = d.item
WHERE d.stage = 'transfer'
    AND i.audit_id = d.audit_id
    AND i.wallpaper_id = w.id
    AND i.outcome = 'failed'
    AND i.code = d.code
    AND NOT i.is_given_up;

-- concurrently: pages by the time when they were read
-- A merge looks for pages that were read after its own.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_staged_pages_fetched
    ON draenei_content.staged_pages (fetched_at);

-- step: the record
INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (10, '010_given_up_and_audited.sql')
ON CONFLICT DO NOTHING;
