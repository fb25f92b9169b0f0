-- What is listed as it was when its row was merged last need not be staged again. Idempotent, and
-- records itself.

-- step: columns
-- A digest of the listing that the row's columns say; NULL where that is not known.
-- `listed_at` is when that listing was read: an older one does not take its place.
ALTER TABLE draenei_content.wallpapers
    ADD COLUMN IF NOT EXISTS listed_digest BYTEA,
    ADD COLUMN IF NOT EXISTS listed_at     TIMESTAMPTZ;
ALTER TABLE draenei_content.staged_wallpapers ADD COLUMN IF NOT EXISTS listed_digest BYTEA;

-- How many items of the page were staged: those that are listed as before were not.
ALTER TABLE draenei_content.staged_pages
    ADD COLUMN IF NOT EXISTS staged INTEGER,
    DROP CONSTRAINT IF EXISTS staged_pages_staged_known,
    ADD CONSTRAINT staged_pages_staged_known CHECK (staged IS NOT NULL) NOT VALID;

-- step: pages that are there were staged whole
UPDATE draenei_content.staged_pages SET staged = items WHERE staged IS NULL;

-- step: which holds for every page now
ALTER TABLE draenei_content.staged_pages VALIDATE CONSTRAINT staged_pages_staged_known;

-- step: NOT NULL, which that constraint proves without a look at the pages; and the trigger
ALTER TABLE draenei_content.staged_pages ALTER COLUMN staged SET NOT NULL;
ALTER TABLE draenei_content.staged_pages DROP CONSTRAINT staged_pages_staged_known;

CREATE OR REPLACE FUNCTION draenei_content.forget_listed_digest() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.listed_digest := NULL;
    RETURN NEW;
END
$$;

-- Whoever else changes what the listing says, or sends for the image again, makes the row one that
-- the next listing is compared with column by column.
CREATE OR REPLACE TRIGGER wallpapers_forget_listed_digest
BEFORE UPDATE ON draenei_content.wallpapers
FOR EACH ROW
WHEN (
    OLD.listed_digest = NEW.listed_digest
    AND (
        (OLD.s3_key IS NOT NULL AND NEW.s3_key IS NULL)
        OR (OLD.wallhaven_id, OLD.url, OLD.pending_url, OLD.file_size, OLD.file_type,
            OLD.page_url, OLD.short_url, OLD.source, OLD.category, OLD.purity,
            OLD.dimension_x, OLD.dimension_y, OLD.resolution, OLD.ratio, OLD.source_created_at,
            OLD.colors, OLD.thumb_large, OLD.thumb_original, OLD.thumb_small, OLD.raw)
        IS DISTINCT FROM
           (NEW.wallhaven_id, NEW.url, NEW.pending_url, NEW.file_size, NEW.file_type,
            NEW.page_url, NEW.short_url, NEW.source, NEW.category, NEW.purity,
            NEW.dimension_x, NEW.dimension_y, NEW.resolution, NEW.ratio, NEW.source_created_at,
            NEW.colors, NEW.thumb_large, NEW.thumb_original, NEW.thumb_small, NEW.raw)
    )
)
EXECUTE FUNCTION draenei_content.forget_listed_digest();

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (7, '007_listed_digests.sql')
ON CONFLICT DO NOTHING;
