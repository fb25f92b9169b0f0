-- The requests that an API allows are shared by all processes that use this database. Idempotent,
-- and records itself.

-- One row for each API, named by its host[:port]: what it said of its limit.
CREATE TABLE IF NOT EXISTS draenei_content.api_budgets (
    scope           TEXT PRIMARY KEY,
    announced_limit INTEGER CHECK (announced_limit >= 1),
    paused_until    TIMESTAMPTZ NOT NULL DEFAULT 'epoch'
);

-- One row for each request of a window. Taken until `free_at`: the end of its lease while the
-- request is out, one window after its end when it was answered. All times are this database's.
CREATE TABLE IF NOT EXISTS draenei_content.api_slots (
    scope    TEXT NOT NULL REFERENCES draenei_content.api_budgets (scope) ON DELETE CASCADE,
    slot     INTEGER NOT NULL CHECK (slot >= 1),
    free_at  TIMESTAMPTZ NOT NULL DEFAULT 'epoch',
    taken_at TIMESTAMPTZ NOT NULL DEFAULT 'epoch',
    holder   UUID,
    PRIMARY KEY (scope, slot)
) WITH (fillfactor = 50);

-- Until when callers of a priority are known to wait; 0 goes first.
CREATE TABLE IF NOT EXISTS draenei_content.api_waiters (
    scope        TEXT NOT NULL REFERENCES draenei_content.api_budgets (scope) ON DELETE CASCADE,
    priority     INTEGER NOT NULL CHECK (priority >= 0),
    wanted_until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (scope, priority)
) WITH (fillfactor = 50);

INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (4, '004_api_budget.sql')
ON CONFLICT DO NOTHING;
