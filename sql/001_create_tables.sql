-- Schema of draenei-collector, first version. Idempotent: it runs on an empty database (as an
-- init script of the postgres image, too), on the synchronous original's schema with rows in it,
-- and on its own result. It records itself in draenei_content.schema_migrations.
--
-- `collector migrate` runs each step of a file in a transaction of its own: what is slow shares none
-- with what locks a table (collector/catalog/migrations.py).

-- step: the schema, and the table of wallpapers with all its columns

CREATE SCHEMA IF NOT EXISTS draenei_content;

CREATE TABLE IF NOT EXISTS draenei_content.schema_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- One row for each wallpaper. `url` is the image, `page_url` the page about it; `created_at` is
-- when the row was made, `source_created_at` when the site says that the wallpaper was uploaded.
-- Once an image is stored, `url`, `file_type` and `file_size` stay what they were when it was
-- fetched; an address that the site gives later stands in `pending_url`.
-- `s3_key IS NULL` means: not stored yet.
CREATE TABLE IF NOT EXISTS draenei_content.wallpapers (
    id           BIGSERIAL PRIMARY KEY,
    wallhaven_id TEXT NOT NULL,
    url          TEXT NOT NULL,
    resolution   TEXT,
    category     TEXT,
    purity       TEXT,
    file_size    BIGINT,
    s3_key       TEXT,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at   TIMESTAMPTZ
);

ALTER TABLE draenei_content.wallpapers
    ADD COLUMN IF NOT EXISTS page_url          TEXT,
    ADD COLUMN IF NOT EXISTS short_url         TEXT,
    ADD COLUMN IF NOT EXISTS source            TEXT,
    ADD COLUMN IF NOT EXISTS dimension_x       INTEGER,
    ADD COLUMN IF NOT EXISTS dimension_y       INTEGER,
    ADD COLUMN IF NOT EXISTS ratio             TEXT,
    ADD COLUMN IF NOT EXISTS file_type         TEXT,
    ADD COLUMN IF NOT EXISTS source_created_at TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS colors            TEXT[],
    ADD COLUMN IF NOT EXISTS thumb_large       TEXT,
    ADD COLUMN IF NOT EXISTS thumb_original    TEXT,
    ADD COLUMN IF NOT EXISTS thumb_small       TEXT,
    ADD COLUMN IF NOT EXISTS raw               JSONB,
    ADD COLUMN IF NOT EXISTS object_sha256     TEXT,
    ADD COLUMN IF NOT EXISTS object_bytes      BIGINT,
    ADD COLUMN IF NOT EXISTS stored_at         TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS pending_url       TEXT;

-- step: indexes that the original has, too; 008 adds the others
CREATE UNIQUE INDEX IF NOT EXISTS ux_wallpapers_wallhaven_id
    ON draenei_content.wallpapers (wallhaven_id);

CREATE INDEX IF NOT EXISTS ix_wallpapers_pending_upload
    ON draenei_content.wallpapers (id)
    WHERE s3_key IS NULL;

-- step: constraints of wallpapers, for rows that are written from now on
-- The constraints bind what this version stores (stored_at is set); keys that the original wrote
-- stay as they are.
ALTER TABLE draenei_content.wallpapers
    DROP CONSTRAINT IF EXISTS wallpapers_stored_key,
    DROP CONSTRAINT IF EXISTS wallpapers_stored_whole,
    DROP CONSTRAINT IF EXISTS wallpapers_sha256_hex;
ALTER TABLE draenei_content.wallpapers
    ADD CONSTRAINT wallpapers_stored_key CHECK (
        stored_at IS NULL
        OR s3_key ~ '^wallpapers/[A-Za-z0-9]{1,16}\.(jpg|png|webp)$') NOT VALID,
    ADD CONSTRAINT wallpapers_stored_whole CHECK (
        (stored_at IS NULL) = (object_sha256 IS NULL)
        AND (stored_at IS NULL) = (object_bytes IS NULL)
        AND (stored_at IS NULL OR s3_key IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT wallpapers_sha256_hex CHECK (object_sha256 ~ '^[0-9a-f]{64}$') NOT VALID;

-- step: the same constraints, for the rows that are there
ALTER TABLE draenei_content.wallpapers
    VALIDATE CONSTRAINT wallpapers_stored_key,
    VALIDATE CONSTRAINT wallpapers_stored_whole,
    VALIDATE CONSTRAINT wallpapers_sha256_hex;

-- step: counters and runs

-- What changes daily: kept apart, so that a change of these alone touches no wide row.
CREATE TABLE IF NOT EXISTS draenei_content.wallpaper_counters (
    wallpaper_id BIGINT PRIMARY KEY REFERENCES draenei_content.wallpapers (id) ON DELETE CASCADE,
    views        INTEGER,
    favorites    INTEGER,
    seen_at      TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- One row for each run: the audit. Counters are written when the run ends, by a recount.
CREATE TABLE IF NOT EXISTS draenei_content.run_audit (
    id                   BIGSERIAL PRIMARY KEY,
    dag_id               TEXT NOT NULL,
    run_id               TEXT NOT NULL,
    logical_date         TIMESTAMPTZ,
    started_at           TIMESTAMPTZ,
    ended_at             TIMESTAMPTZ,
    duration_seconds     INTEGER,
    metadata_inserted    INTEGER NOT NULL DEFAULT 0,
    metadata_updated     INTEGER NOT NULL DEFAULT 0,
    images_uploaded      INTEGER NOT NULL DEFAULT 0,
    download_failures    INTEGER NOT NULL DEFAULT 0,
    upload_failures      INTEGER NOT NULL DEFAULT 0,
    missing_s3_after_run INTEGER NOT NULL DEFAULT 0,
    notes                TEXT,
    created_at           TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at           TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (dag_id, run_id)
);

-- Rows that are here before the column `status` are the original's: it audited only successes.
ALTER TABLE draenei_content.run_audit
    ADD COLUMN IF NOT EXISTS metadata_unchanged INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS metadata_invalid   INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS images_adopted     INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS bytes_uploaded     BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS api_requests       INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS status             TEXT NOT NULL DEFAULT 'succeeded',
    ADD COLUMN IF NOT EXISTS report             JSONB NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS heartbeat_at       TIMESTAMPTZ NOT NULL DEFAULT now();
ALTER TABLE draenei_content.run_audit ALTER COLUMN status SET DEFAULT 'running';
-- This rewrites the original's table. It has a row for each run: ten thousand take a moment. Done
-- once, because a view that shows the column forbids it.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM information_schema.columns
        WHERE
            table_schema = 'draenei_content'
            AND table_name = 'run_audit'
            AND column_name = 'duration_seconds'
            AND data_type = 'integer'
    ) THEN
        ALTER TABLE draenei_content.run_audit
            ALTER COLUMN duration_seconds TYPE DOUBLE PRECISION;
    END IF;
END
$$;
ALTER TABLE draenei_content.run_audit DROP CONSTRAINT IF EXISTS run_audit_status;
ALTER TABLE draenei_content.run_audit ADD CONSTRAINT run_audit_status CHECK (
    status IN ('running', 'succeeded', 'partial', 'failed', 'interrupted', 'crashed'));

CREATE INDEX IF NOT EXISTS ix_run_audit_started ON draenei_content.run_audit (started_at);

-- step: what a run leaves, and what waits between its stages
-- What each stage of a run said, by its last call; the audit decides the run's status from it.
CREATE TABLE IF NOT EXISTS draenei_content.run_stages (
    audit_id     BIGINT NOT NULL REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    stage        TEXT NOT NULL CHECK (stage IN ('extract', 'load', 'transfer', 'audit')),
    status       TEXT NOT NULL
        CHECK (status IN ('running', 'succeeded', 'failed', 'interrupted')),
    tries        INTEGER NOT NULL DEFAULT 1,
    api_requests INTEGER NOT NULL DEFAULT 0,
    started_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at     TIMESTAMPTZ,
    report       JSONB NOT NULL DEFAULT '{}',
    problem      TEXT,
    PRIMARY KEY (audit_id, stage),
    CHECK ((status = 'running') = (ended_at IS NULL))
);

-- The watermark of each search: the ids on its first page when it was last read without a hole.
-- All that is older was read then; a later reading may stop where it meets one of them. It moves
-- (from `read_ids`) only when every page of that reading has been merged.
CREATE TABLE IF NOT EXISTS draenei_content.searches (
    search_key    TEXT PRIMARY KEY,
    newest_ids    TEXT[] NOT NULL DEFAULT '{}',
    read_ids      TEXT[] NOT NULL,
    read_audit_id BIGINT NOT NULL,
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- What each merge of a run did; the audit adds these up. A merge belongs to the run that did it,
-- also where it took pages that an earlier run had left.
CREATE TABLE IF NOT EXISTS draenei_content.run_loads (
    id         BIGSERIAL PRIMARY KEY,
    audit_id   BIGINT NOT NULL REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    merged_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    pages      INTEGER NOT NULL DEFAULT 0,
    inserted   INTEGER NOT NULL DEFAULT 0,
    updated    INTEGER NOT NULL DEFAULT 0,
    unchanged  INTEGER NOT NULL DEFAULT 0,
    invalid    INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX IF NOT EXISTS ix_run_loads_audit ON draenei_content.run_loads (audit_id);

-- The ledger of pages: one row for each page of a run that lies, or lay, in staging.
CREATE TABLE IF NOT EXISTS draenei_content.staged_pages (
    audit_id   BIGINT NOT NULL REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    page       INTEGER NOT NULL CHECK (page >= 1),
    search_key TEXT NOT NULL,
    ids        TEXT[] NOT NULL,
    items      INTEGER NOT NULL CHECK (items >= 0),
    invalid    INTEGER NOT NULL CHECK (invalid BETWEEN 0 AND items),
    known      INTEGER NOT NULL CHECK (known BETWEEN 0 AND items),
    last_page  INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    fetched_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    load_id    BIGINT REFERENCES draenei_content.run_loads (id) ON DELETE SET NULL,
    PRIMARY KEY (audit_id, page)
);

CREATE INDEX IF NOT EXISTS ix_staged_pages_unmerged
    ON draenei_content.staged_pages (audit_id)
    WHERE load_id IS NULL;
CREATE INDEX IF NOT EXISTS ix_staged_pages_load ON draenei_content.staged_pages (load_id);

-- Items as they came, rejects included, between extract and load. No NOT NULL on what the API
-- gives: a row that cannot become a wallpaper has `code` and `reason` instead.
CREATE TABLE IF NOT EXISTS draenei_content.staged_wallpapers (
    audit_id          BIGINT NOT NULL,
    page              INTEGER NOT NULL,
    position          INTEGER NOT NULL,
    code              TEXT,
    reason            TEXT,
    rejected          TEXT,
    wallhaven_id      TEXT,
    url               TEXT,
    page_url          TEXT,
    short_url         TEXT,
    source            TEXT,
    category          TEXT,
    purity            TEXT,
    dimension_x       INTEGER,
    dimension_y       INTEGER,
    resolution        TEXT,
    ratio             TEXT,
    file_size         BIGINT,
    file_type         TEXT,
    source_created_at TIMESTAMPTZ,
    colors            TEXT[],
    thumb_large       TEXT,
    thumb_original    TEXT,
    thumb_small       TEXT,
    raw               JSONB,
    views             INTEGER,
    favorites         INTEGER,
    PRIMARY KEY (audit_id, page, position),
    FOREIGN KEY (audit_id, page)
        REFERENCES draenei_content.staged_pages (audit_id, page) ON DELETE CASCADE
);

-- The backlog: one narrow row for each wallpaper without an object. It is deleted when the
-- object is confirmed, so that a claim costs the same whether a thousand or a million are stored.
CREATE TABLE IF NOT EXISTS draenei_content.transfers (
    wallpaper_id    BIGINT PRIMARY KEY
        REFERENCES draenei_content.wallpapers (id) ON DELETE CASCADE,
    state           TEXT NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'claimed', 'dead')),
    next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    fence           BIGINT NOT NULL DEFAULT 0,
    owner           UUID,
    lease_until     TIMESTAMPTZ,
    last_audit_id   BIGINT,
    run_attempts    INTEGER NOT NULL DEFAULT 0,
    upload_id       TEXT,
    CHECK ((state = 'claimed') = (owner IS NOT NULL)),
    CHECK ((state = 'claimed') = (lease_until IS NOT NULL))
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS ix_transfers_due
    ON draenei_content.transfers (next_attempt_at, wallpaper_id)
    WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS ix_transfers_leased
    ON draenei_content.transfers (lease_until)
    WHERE state = 'claimed';
CREATE INDEX IF NOT EXISTS ix_transfers_retry
    ON draenei_content.transfers (last_audit_id, next_attempt_at)
    WHERE state = 'pending' AND last_audit_id IS NOT NULL;

-- step: wallpapers without an object join the backlog
INSERT INTO draenei_content.transfers (wallpaper_id)
SELECT id FROM draenei_content.wallpapers WHERE s3_key IS NULL
ON CONFLICT DO NOTHING;

-- step: outcomes and dead letters
-- How each item's last try in a run ended: the audit counts these rows.
CREATE TABLE IF NOT EXISTS draenei_content.run_items (
    audit_id     BIGINT NOT NULL REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    wallpaper_id BIGINT NOT NULL REFERENCES draenei_content.wallpapers (id) ON DELETE CASCADE,
    outcome      TEXT NOT NULL CHECK (outcome IN ('uploaded', 'adopted', 'failed')),
    edge         TEXT CHECK (edge IN ('download', 'upload')),
    code         TEXT,
    bytes        BIGINT NOT NULL DEFAULT 0,
    tries        INTEGER NOT NULL DEFAULT 1,
    ended_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (audit_id, wallpaper_id),
    CHECK ((outcome = 'failed') = (edge IS NOT NULL)),
    CHECK ((outcome = 'failed') = (code IS NOT NULL))
);

-- What was given up on. `item` is the wallpaper's id, or a digest of what was received where it
-- had none; open means `resolved_at IS NULL`, and each item has one open row at most.
CREATE TABLE IF NOT EXISTS draenei_content.dead_letters (
    id              BIGSERIAL PRIMARY KEY,
    stage           TEXT NOT NULL CHECK (stage IN ('load', 'transfer')),
    item            TEXT NOT NULL,
    wallhaven_id    TEXT,
    code            TEXT NOT NULL,
    reason          TEXT NOT NULL,
    raw             TEXT,
    attempts        INTEGER NOT NULL DEFAULT 1 CHECK (attempts >= 1),
    first_failed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_failed_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    audit_id        BIGINT REFERENCES draenei_content.run_audit (id) ON DELETE SET NULL,
    run_id          TEXT NOT NULL,
    resolved_at     TIMESTAMPTZ
);

CREATE UNIQUE INDEX IF NOT EXISTS ux_dead_letters_open
    ON draenei_content.dead_letters (stage, item)
    WHERE resolved_at IS NULL;
CREATE INDEX IF NOT EXISTS ix_dead_letters_run ON draenei_content.dead_letters (audit_id);

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (1, '001_create_tables.sql')
ON CONFLICT DO NOTHING;
