-- Pages that could not be read while others could: a run leaves them out, and its ledger says so.
-- Idempotent, and records itself.

-- One row for each time. `last_page` and `total` are what another page said right afterwards.
CREATE TABLE IF NOT EXISTS draenei_content.unreadable_pages (
    audit_id   BIGINT NOT NULL REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    page       INTEGER NOT NULL CHECK (page >= 1),
    failed_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    search_key TEXT NOT NULL,
    last_page  INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    problem    TEXT NOT NULL,
    PRIMARY KEY (audit_id, page, failed_at)
);

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (12, '012_unreadable_pages.sql')
ON CONFLICT DO NOTHING;
