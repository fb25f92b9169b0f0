-- name: enlist_details
-- Add new wallpapers to the queue. They are due since their upload, so that with equal favourites
-- the oldest comes first. Without $1, nsfw ones are left out: guests may not see them. Sorted,
-- since concurrent calls in different order deadlock. Rows of the synchronous original may have ids
-- that the API cannot have; they are left out.
WITH missing AS MATERIALIZED (
    -- Separate, so that it reads only the two primary keys.
    SELECT w.id
    FROM draenei_content.wallpapers AS w
    WHERE NOT EXISTS (
        SELECT FROM draenei_content.wallpaper_details AS d WHERE d.wallpaper_id = w.id
    )
)
INSERT INTO draenei_content.wallpaper_details (wallpaper_id, favorites, next_attempt_at)
SELECT w.id, COALESCE(c.favorites, 0), LEAST(w.source_created_at, now())
FROM missing
INNER JOIN draenei_content.wallpapers AS w USING (id)
LEFT JOIN draenei_content.wallpaper_counters AS c ON c.wallpaper_id = w.id
WHERE w.wallhaven_id ~ '^[A-Za-z0-9]{1,16}$'
    AND ($1 OR w.purity IS DISTINCT FROM 'nsfw')
ORDER BY w.id
ON CONFLICT DO NOTHING;

-- name: refresh_favorites
-- Update the favourites, and so the order, of wallpapers without an answer.
UPDATE draenei_content.wallpaper_details AS d
SET favorites = c.favorites
FROM draenei_content.wallpaper_counters AS c
WHERE c.wallpaper_id = d.wallpaper_id
    AND d.enriched_at IS NULL
    AND d.missing_at IS NULL
    AND d.favorites <> c.favorites;

-- name: reap_details
-- Release wallpapers whose lease has lapsed.
UPDATE draenei_content.wallpaper_details
SET owner = NULL, lease_until = NULL
WHERE wallpaper_id IN (
    SELECT wallpaper_id
    FROM draenei_content.wallpaper_details
    WHERE owner IS NOT NULL AND lease_until < now()
    ORDER BY wallpaper_id
    FOR UPDATE SKIP LOCKED
);

-- name: claim_first
-- Owner $1 claims up to $2 wallpapers without an answer, for $3 seconds: most favourites first,
-- then the oldest.
WITH due AS MATERIALIZED (
    SELECT wallpaper_id
    FROM draenei_content.wallpaper_details
    WHERE owner IS NULL
        AND enriched_at IS NULL
        AND missing_at IS NULL
        AND next_attempt_at <= now()
    ORDER BY favorites DESC, next_attempt_at, wallpaper_id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE draenei_content.wallpaper_details AS d SET
    owner = $1,
    lease_until = clock_timestamp() + make_interval(secs => $3),
    attempts = d.attempts + 1
FROM due
INNER JOIN draenei_content.wallpapers AS w ON w.id = due.wallpaper_id
WHERE d.wallpaper_id = due.wallpaper_id
RETURNING d.wallpaper_id AS wallpaper_id, d.owner, w.wallhaven_id;

-- name: claim_again
-- The same for wallpapers that were answered or missing and are due again, the longest due first.
WITH due AS MATERIALIZED (
    SELECT wallpaper_id
    FROM draenei_content.wallpaper_details
    WHERE owner IS NULL
        AND (enriched_at IS NOT NULL OR missing_at IS NOT NULL)
        AND next_attempt_at <= now()
    ORDER BY next_attempt_at, wallpaper_id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE draenei_content.wallpaper_details AS d SET
    owner = $1,
    lease_until = clock_timestamp() + make_interval(secs => $3),
    attempts = d.attempts + 1
FROM due
INNER JOIN draenei_content.wallpapers AS w ON w.id = due.wallpaper_id
WHERE d.wallpaper_id = due.wallpaper_id
RETURNING d.wallpaper_id AS wallpaper_id, d.owner, w.wallhaven_id;

-- name: release_details
-- Release the wallpapers $2 of owner $1, and refund their attempts.
UPDATE draenei_content.wallpaper_details
SET owner = NULL, lease_until = NULL, attempts = GREATEST(attempts - 1, 0)
WHERE owner = $1 AND wallpaper_id = ANY($2::bigint[]);

-- name: postpone_details
-- The wallpapers $1 had no usable answer: due again in $2 seconds, doubled for each attempt since
-- the last answer, at most $3.
UPDATE draenei_content.wallpaper_details SET
    owner = NULL,
    lease_until = NULL,
    next_attempt_at = now()
        + make_interval(secs => LEAST($2 * power(2, LEAST(attempts, 30) - 1), $3))
WHERE wallpaper_id = ANY($1::bigint[]);

-- name: upsert_tags
-- Insert or update tags, column by column; sorted, since concurrent calls in different order
-- deadlock.
INSERT INTO draenei_content.tags AS t (
    tag_id, name, alias, category_id, category, purity, source_created_at, raw
)
SELECT *
FROM unnest(
    $1::int[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::timestamptz[],
    $8::jsonb[]
) AS found (tag_id, name, alias, category_id, category, purity, source_created_at, raw)
ORDER BY tag_id
ON CONFLICT (tag_id) DO UPDATE SET
    name = EXCLUDED.name,
    alias = EXCLUDED.alias,
    category_id = EXCLUDED.category_id,
    category = EXCLUDED.category,
    purity = EXCLUDED.purity,
    source_created_at = EXCLUDED.source_created_at,
    raw = EXCLUDED.raw,
    updated_at = now()
WHERE (t.name, t.alias, t.category_id, t.category, t.purity, t.source_created_at, t.raw)
    IS DISTINCT FROM (
        EXCLUDED.name, EXCLUDED.alias, EXCLUDED.category_id, EXCLUDED.category, EXCLUDED.purity,
        EXCLUDED.source_created_at, EXCLUDED.raw
    );

-- name: upsert_uploaders
-- Insert or update uploaders, column by column.
INSERT INTO draenei_content.uploaders AS u (username, group_name, avatars, raw)
SELECT *
FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::jsonb[])
    AS found (username, group_name, avatars, raw)
ORDER BY username
ON CONFLICT (username) DO UPDATE SET
    group_name = EXCLUDED.group_name,
    avatars = EXCLUDED.avatars,
    raw = EXCLUDED.raw,
    updated_at = now()
WHERE (u.group_name, u.avatars, u.raw)
    IS DISTINCT FROM (EXCLUDED.group_name, EXCLUDED.avatars, EXCLUDED.raw);

-- name: note_enriched
-- The wallpapers $1 were answered: $2 uploader, $3 views, $4 favourites; due again in $5 seconds.
WITH found AS MATERIALIZED (
    SELECT *
    FROM unnest($1::bigint[], $2::text[], $3::int[], $4::int[])
        AS f (wallpaper_id, username, views, favorites)
),
noted AS (
    UPDATE draenei_content.wallpaper_details AS d SET
        uploader_id = u.id,
        enriched_at = now(),
        missing_at = NULL,
        favorites = COALESCE(f.favorites, d.favorites),
        next_attempt_at = now() + make_interval(secs => $5),
        attempts = 0,
        owner = NULL,
        lease_until = NULL
    FROM found AS f
    LEFT JOIN draenei_content.uploaders AS u USING (username)
    WHERE d.wallpaper_id = f.wallpaper_id
    RETURNING d.wallpaper_id, f.views, f.favorites
)
INSERT INTO draenei_content.wallpaper_counters AS c (wallpaper_id, views, favorites)
SELECT wallpaper_id, views, favorites
FROM noted
WHERE (views, favorites) IS DISTINCT FROM (NULL, NULL)
ORDER BY wallpaper_id
ON CONFLICT (wallpaper_id) DO UPDATE SET
    views = EXCLUDED.views,
    favorites = EXCLUDED.favorites,
    seen_at = now()
WHERE (c.views, c.favorites) IS DISTINCT FROM (EXCLUDED.views, EXCLUDED.favorites);

-- name: note_missing
-- The API does not show the wallpapers $1; due again in $2 seconds.
UPDATE draenei_content.wallpaper_details SET
    missing_at = now(),
    next_attempt_at = now() + make_interval(secs => $2),
    attempts = 0,
    owner = NULL,
    lease_until = NULL
WHERE wallpaper_id = ANY($1::bigint[]);

-- name: drop_wallpaper_tags
-- Delete tags that the wallpapers $1 no longer have: all but the pairs of wallpaper $2 and tag $3.
DELETE FROM draenei_content.wallpaper_tags AS t
WHERE t.wallpaper_id = ANY($1::bigint[])
    AND NOT EXISTS (
        SELECT
        FROM unnest($2::bigint[], $3::int[]) AS p (wallpaper_id, tag_id)
        WHERE p.wallpaper_id = t.wallpaper_id AND p.tag_id = t.tag_id
    );

-- name: add_wallpaper_tags
-- Insert pairs of wallpaper $1 and tag $2, except for wallpapers that were deleted meanwhile.
INSERT INTO draenei_content.wallpaper_tags (wallpaper_id, tag_id)
SELECT p.wallpaper_id, p.tag_id
FROM unnest($1::bigint[], $2::int[]) AS p (wallpaper_id, tag_id)
INNER JOIN draenei_content.wallpaper_details AS d USING (wallpaper_id)
ORDER BY p.wallpaper_id, p.tag_id
ON CONFLICT DO NOTHING;

-- name: note_enrichments
-- The findings of run $1 about the wallpapers $2: $3 outcomes, $4 tags, $5 rejected tags.
INSERT INTO draenei_content.run_enrichments (
    audit_id, wallpaper_id, outcome, tags, rejected_tags
)
SELECT $1, f.wallpaper_id, f.outcome, f.tags, f.rejected_tags
FROM unnest($2::bigint[], $3::text[], $4::int[], $5::int[])
    AS f (wallpaper_id, outcome, tags, rejected_tags)
INNER JOIN draenei_content.wallpaper_details AS d USING (wallpaper_id)
ON CONFLICT (audit_id, wallpaper_id) DO UPDATE SET
    outcome = EXCLUDED.outcome,
    tags = EXCLUDED.tags,
    rejected_tags = EXCLUDED.rejected_tags,
    asked_at = now();

-- name: answered_before
-- The wallpaper that was answered last and is not known to be hidden from guests.
SELECT w.wallhaven_id
FROM draenei_content.wallpaper_details AS d
INNER JOIN draenei_content.wallpapers AS w ON w.id = d.wallpaper_id
-- As in the index of what is due again: the wallpaper that was answered last is due last.
WHERE d.owner IS NULL
    AND (d.enriched_at IS NOT NULL OR d.missing_at IS NOT NULL)
    AND d.enriched_at IS NOT NULL
    AND d.missing_at IS NULL
    AND w.purity IS DISTINCT FROM 'nsfw'
ORDER BY d.next_attempt_at DESC
LIMIT 1;

-- name: asked_by_run
-- About how many wallpapers run $1 has requested.
SELECT count(*)::int FROM draenei_content.run_enrichments WHERE audit_id = $1;

-- name: enrichment_share
-- Counts of all wallpapers and of enriched ones.
SELECT
    (SELECT count(*)::int FROM draenei_content.wallpapers) AS wallpapers,
    (
        SELECT count(*)::int
        FROM draenei_content.wallpaper_details
        WHERE enriched_at IS NOT NULL
    ) AS enriched;
