-- A stage may be done by several workers of one run at once: each has a row of its own in
-- run_stages, so that none overwrites what another one said. Idempotent, and records itself.

ALTER TABLE draenei_content.run_stages
    ADD COLUMN IF NOT EXISTS worker INTEGER NOT NULL DEFAULT 0 CHECK (worker >= 0);

ALTER TABLE draenei_content.run_stages
    DROP CONSTRAINT IF EXISTS run_stages_pkey,
    ADD CONSTRAINT run_stages_pkey PRIMARY KEY (audit_id, stage, worker);

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (2, '002_stage_workers.sql')
ON CONFLICT DO NOTHING;
