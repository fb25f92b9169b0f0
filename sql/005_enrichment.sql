-- What the API says of each wallpaper alone: tags and uploader, and which wallpaper to ask about
-- next. Idempotent, and records itself.

-- `raw` holds the fields that have no column, here and in uploaders.
CREATE TABLE IF NOT EXISTS draenei_content.tags (
    tag_id            INTEGER PRIMARY KEY CHECK (tag_id >= 1),
    name              TEXT NOT NULL,
    alias             TEXT,
    category_id       INTEGER,
    category          TEXT,
    purity            TEXT,
    source_created_at TIMESTAMPTZ,
    raw               JSONB,
    created_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at        TIMESTAMPTZ
);

CREATE INDEX IF NOT EXISTS ix_tags_name ON draenei_content.tags (name);

CREATE TABLE IF NOT EXISTS draenei_content.uploaders (
    id         BIGSERIAL PRIMARY KEY,
    username   TEXT NOT NULL UNIQUE,
    group_name TEXT,
    avatars    JSONB NOT NULL DEFAULT '{}',
    raw        JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ
);

CREATE TABLE IF NOT EXISTS draenei_content.wallpaper_tags (
    wallpaper_id BIGINT NOT NULL REFERENCES draenei_content.wallpapers (id) ON DELETE CASCADE,
    tag_id       INTEGER NOT NULL REFERENCES draenei_content.tags (tag_id) ON DELETE CASCADE,
    PRIMARY KEY (wallpaper_id, tag_id)
);

CREATE INDEX IF NOT EXISTS ix_wallpaper_tags_tag
    ON draenei_content.wallpaper_tags (tag_id, wallpaper_id);

-- One narrow row for each wallpaper that has been, or is to be, asked about. `enriched_at` is when
-- it was last answered, `missing_at` when the API last said that there is no such wallpaper, or
-- that we may not see it; an answer clears it. The rest is the queue: `favorites` is its order,
-- `next_attempt_at` when the wallpaper is due (from its upload on, where it was never asked about),
-- `attempts` counts tries since the last answer, `owner` has it in hand.
CREATE TABLE IF NOT EXISTS draenei_content.wallpaper_details (
    wallpaper_id    BIGINT PRIMARY KEY
        REFERENCES draenei_content.wallpapers (id) ON DELETE CASCADE,
    uploader_id     BIGINT REFERENCES draenei_content.uploaders (id) ON DELETE SET NULL,
    enriched_at     TIMESTAMPTZ,
    missing_at      TIMESTAMPTZ,
    favorites       INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    owner           UUID,
    lease_until     TIMESTAMPTZ,
    CHECK ((owner IS NULL) = (lease_until IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS ix_wallpaper_details_first
    ON draenei_content.wallpaper_details (favorites DESC, next_attempt_at, wallpaper_id)
    WHERE owner IS NULL AND enriched_at IS NULL AND missing_at IS NULL;
CREATE INDEX IF NOT EXISTS ix_wallpaper_details_again
    ON draenei_content.wallpaper_details (next_attempt_at, wallpaper_id)
    WHERE owner IS NULL AND (enriched_at IS NOT NULL OR missing_at IS NOT NULL);
CREATE INDEX IF NOT EXISTS ix_wallpaper_details_leased
    ON draenei_content.wallpaper_details (lease_until)
    WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS ix_wallpaper_details_uploader
    ON draenei_content.wallpaper_details (uploader_id);

-- What a run learned about each wallpaper that it asked about: the audit counts these rows.
CREATE TABLE IF NOT EXISTS draenei_content.run_enrichments (
    audit_id      BIGINT NOT NULL REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    wallpaper_id  BIGINT NOT NULL REFERENCES draenei_content.wallpapers (id) ON DELETE CASCADE,
    outcome       TEXT NOT NULL CHECK (outcome IN ('enriched', 'missing', 'unusable')),
    tags          INTEGER NOT NULL DEFAULT 0,
    rejected_tags INTEGER NOT NULL DEFAULT 0,
    asked_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (audit_id, wallpaper_id)
);

CREATE INDEX IF NOT EXISTS ix_run_enrichments_wallpaper
    ON draenei_content.run_enrichments (wallpaper_id);

ALTER TABLE draenei_content.run_stages
    DROP CONSTRAINT IF EXISTS run_stages_stage_check,
    ADD CONSTRAINT run_stages_stage_check
        CHECK (stage IN ('extract', 'load', 'transfer', 'audit', 'enrich'));

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (5, '005_enrichment.sql')
ON CONFLICT DO NOTHING;
