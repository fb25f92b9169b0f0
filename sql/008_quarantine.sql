-- Objects that are nobody's, and stored rows in the order of their keys, so that bucket and tables
-- can be compared. Idempotent, and records itself.

-- step: quarantine
-- Objects under our prefix that belong to no row, or are not what their row's image is. They are
-- left alone, for a person to look at; `etag` and `size_bytes` tell whether one is still the same.
CREATE TABLE IF NOT EXISTS draenei_content.quarantined_objects (
    s3_key     TEXT PRIMARY KEY,
    etag       TEXT NOT NULL,
    size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0),
    reason     TEXT NOT NULL,
    found_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- concurrently: multipart uploads that were noted and may still be there
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_transfers_upload
    ON draenei_content.transfers (wallpaper_id)
    WHERE upload_id IS NOT NULL;

-- concurrently: stored rows in the order in which a bucket lists its keys, by bytes
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_wallpapers_s3_key
    ON draenei_content.wallpapers (s3_key COLLATE "C", id)
    WHERE s3_key IS NOT NULL;

-- concurrently: stored rows by the time when they were stored
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_wallpapers_stored
    ON draenei_content.wallpapers (stored_at)
    WHERE stored_at IS NOT NULL;

-- step: the record
INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (8, '008_quarantine.sql')
ON CONFLICT DO NOTHING;
