-- Details of old runs may be trimmed, and no ledger that is needed is deleted with a run's row.
-- Idempotent, and records itself.

-- step: columns
-- A file that only adds says here which version's programs may go on with the database as it leaves
-- it; NULL says that none may (collector/catalog/migrations.py).
ALTER TABLE draenei_content.schema_migrations ADD COLUMN IF NOT EXISTS compatible_from INTEGER;

-- Since when details of the run are trimmed: its numbers cannot be counted again, so they stay.
ALTER TABLE draenei_content.run_audit ADD COLUMN IF NOT EXISTS trimmed_at TIMESTAMPTZ;

-- step: no row of run_audit takes a crawl along, nor the load that merged another run's pages
ALTER TABLE draenei_content.crawls
    DROP CONSTRAINT IF EXISTS crawls_audit_id_fkey,
    ADD CONSTRAINT crawls_audit_id_fkey
        FOREIGN KEY (audit_id) REFERENCES draenei_content.run_audit (id) NOT VALID;
ALTER TABLE draenei_content.staged_pages
    DROP CONSTRAINT IF EXISTS staged_pages_load_id_fkey,
    ADD CONSTRAINT staged_pages_load_id_fkey
        FOREIGN KEY (load_id) REFERENCES draenei_content.run_loads (id) NOT VALID;

-- step: the same for crawls that are there
ALTER TABLE draenei_content.crawls VALIDATE CONSTRAINT crawls_audit_id_fkey;

-- step: the same for pages that are there
ALTER TABLE draenei_content.staged_pages VALIDATE CONSTRAINT staged_pages_load_id_fkey;

-- concurrently: outcomes by their wallpaper
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_run_items_wallpaper
    ON draenei_content.run_items (wallpaper_id);

-- step: the record
INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (11, '011_keeping.sql')
ON CONFLICT DO NOTHING;
