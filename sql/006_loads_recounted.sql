-- What the loads of a run did is counted from the ledger: each item once, whatever loads have met
-- it. A load notes only what the ledger cannot tell. Idempotent, and records itself.

-- The run whose load made the row: a later load of the same run that changes it updates nothing
-- that was there before the run. NULL where the row is older than this column.
ALTER TABLE draenei_content.wallpapers ADD COLUMN IF NOT EXISTS first_audit_id BIGINT;

-- Ids of rows that the load changed and that its run had not made; `updated` counts those of loads
-- from before this file.
ALTER TABLE draenei_content.run_loads
    ADD COLUMN IF NOT EXISTS updated_items TEXT[] NOT NULL DEFAULT '{}',
    DROP COLUMN IF EXISTS unchanged,
    DROP COLUMN IF EXISTS invalid,
    DROP COLUMN IF EXISTS duplicates;

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (6, '006_loads_recounted.sql')
ON CONFLICT DO NOTHING;
