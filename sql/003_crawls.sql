-- Reading a search as a whole: a page may be read more than once by one run, what was listed and
-- rejected is known by name, and a crawl goes on where it stopped. Idempotent, and records itself.

-- step: columns of the ledger and of staging
ALTER TABLE draenei_content.staged_wallpapers
    ADD COLUMN IF NOT EXISTS reading INTEGER NOT NULL DEFAULT 1,
    DROP CONSTRAINT IF EXISTS staged_wallpapers_audit_id_page_fkey,
    DROP CONSTRAINT IF EXISTS staged_wallpapers_staged_page,
    DROP CONSTRAINT IF EXISTS staged_wallpapers_pkey;

-- `rejected_items` names the items without a row, as dead_letters.item does. `per_page` is how many
-- items a full page has, NULL where that was not noted yet.
ALTER TABLE draenei_content.staged_pages
    ADD COLUMN IF NOT EXISTS reading INTEGER NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS rejected_items TEXT[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS per_page INTEGER,
    DROP CONSTRAINT IF EXISTS staged_pages_reading_check,
    DROP CONSTRAINT IF EXISTS staged_pages_per_page_check,
    ADD CONSTRAINT staged_pages_reading_check CHECK (reading >= 1) NOT VALID,
    ADD CONSTRAINT staged_pages_per_page_check CHECK (per_page >= 1) NOT VALID;

-- step: the same constraints, for the pages that are there
ALTER TABLE draenei_content.staged_pages
    VALIDATE CONSTRAINT staged_pages_reading_check,
    VALIDATE CONSTRAINT staged_pages_per_page_check;

-- concurrently: the ledger's new key
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ux_staged_pages_reading
    ON draenei_content.staged_pages (audit_id, page, reading);

-- step: the new key in the old one's place
ALTER TABLE draenei_content.staged_pages
    DROP CONSTRAINT IF EXISTS staged_pages_pkey,
    ADD CONSTRAINT staged_pages_pkey PRIMARY KEY USING INDEX ux_staged_pages_reading;

-- concurrently: staged rows by their page
-- No keys: each row comes with its ledger row in one transaction, and load compares the two. Checking
-- that row by row cost more than the rows themselves.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_staged_wallpapers_page
    ON draenei_content.staged_wallpapers (audit_id, page, reading);

-- concurrently: pages by their search
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_staged_pages_search
    ON draenei_content.staged_pages (search_key, audit_id);

-- step: watermarks, totals and crawls
-- The run whose reading made `newest_ids`: what later runs have read and not joined to it yet lies
-- above a gap.
ALTER TABLE draenei_content.searches ADD COLUMN IF NOT EXISTS newest_audit_id BIGINT;
UPDATE draenei_content.searches
SET newest_audit_id = read_audit_id
WHERE newest_audit_id IS NULL AND newest_ids = read_ids;

-- How many wallpapers a search without filters had, when it was asked for last.
CREATE TABLE IF NOT EXISTS draenei_content.search_totals (
    search_key TEXT PRIMARY KEY,
    total      INTEGER NOT NULL CHECK (total >= 0),
    asked_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

-- One row for each backfill of a search: which pages of its list, and the run that reads them. It
-- is open until it has its verdict; the same command goes on with it until then. `is_oldest_first`
-- says that new items join the end of the list, so that the order of reading proves it whole.
CREATE TABLE IF NOT EXISTS draenei_content.crawls (
    audit_id        BIGINT PRIMARY KEY
        REFERENCES draenei_content.run_audit (id) ON DELETE CASCADE,
    search_key      TEXT NOT NULL,
    from_page       INTEGER NOT NULL CHECK (from_page >= 1),
    to_page         INTEGER CHECK (to_page >= from_page),
    is_oldest_first BOOLEAN NOT NULL,
    verdict         TEXT CHECK (verdict IN ('complete', 'explained', 'incomplete')),
    begun_at        TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    ended_at        TIMESTAMPTZ,
    CHECK ((verdict IS NULL) = (ended_at IS NULL))
);

CREATE UNIQUE INDEX IF NOT EXISTS ux_crawls_open
    ON draenei_content.crawls (search_key, from_page, COALESCE(to_page, 0))
    WHERE ended_at IS NULL;

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (3, '003_crawls.sql')
ON CONFLICT DO NOTHING;
