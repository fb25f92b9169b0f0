"""The synchronous original's schema, with rows in it, and what tells two schemas apart."""

from __future__ import annotations

# The tables of the synchronous original, as its first version made them.
ORIGINAL = """
CREATE SCHEMA draenei_content;
CREATE TABLE draenei_content.wallpapers (
    id BIGSERIAL PRIMARY KEY, wallhaven_id TEXT NOT NULL, url TEXT NOT NULL, resolution TEXT,
    category TEXT, purity TEXT, file_size BIGINT, s3_key TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ);
CREATE UNIQUE INDEX ux_wallpapers_wallhaven_id ON draenei_content.wallpapers (wallhaven_id);
CREATE INDEX ix_wallpapers_pending_upload ON draenei_content.wallpapers (id)
    WHERE s3_key IS NULL;
CREATE TABLE draenei_content.run_audit (
    id BIGSERIAL PRIMARY KEY, dag_id TEXT NOT NULL, run_id TEXT NOT NULL,
    logical_date TIMESTAMPTZ, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,
    duration_seconds INTEGER, metadata_inserted INTEGER NOT NULL DEFAULT 0,
    metadata_updated INTEGER NOT NULL DEFAULT 0, images_uploaded INTEGER NOT NULL DEFAULT 0,
    download_failures INTEGER NOT NULL DEFAULT 0, upload_failures INTEGER NOT NULL DEFAULT 0,
    missing_s3_after_run INTEGER NOT NULL DEFAULT 0, notes TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    UNIQUE (dag_id, run_id));
INSERT INTO draenei_content.wallpapers (wallhaven_id, url, s3_key) VALUES
    ('aaaaaa', 'https://w.wallhaven.cc/full/aa/wallhaven-aaaaaa.jpg', 'wallpapers/aaaaaa.jpg'),
    ('bbbbbb', 'https://w.wallhaven.cc/full/bb', 'wallpapers/bbbbbb.cc/full/bb'),
    ('cccccc', 'https://w.wallhaven.cc/full/cc/wallhaven-cccccc.png', NULL);
INSERT INTO draenei_content.run_audit (dag_id, run_id, duration_seconds, images_uploaded)
VALUES ('draenei_content_loader_v4_clean', 'manual__1', 12, 2);
"""

DEFINITIONS = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'draenei_content'
UNION ALL
SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'draenei_content'
UNION ALL
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
FROM pg_constraint WHERE connamespace = 'draenei_content'::regnamespace AND contype <> 'n'
ORDER BY 1, 2, 3
"""
