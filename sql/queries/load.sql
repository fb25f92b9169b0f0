-- name: begin_load
-- A merge by run $1 begins.
INSERT INTO draenei_content.run_loads (audit_id) VALUES ($1) RETURNING id;

-- name: take_pages
-- Load $1 of run $2 takes this run's unmerged pages and those that dead runs left: ended ones, and
-- running ones that nobody has heard of for $3 seconds.
WITH taken AS (
    UPDATE draenei_content.staged_pages AS p
    SET load_id = $1
    FROM draenei_content.run_audit AS a
    WHERE p.load_id IS NULL
        AND a.id = p.audit_id
        AND (
            p.audit_id = $2
            OR (
                (a.status <> 'running' OR a.heartbeat_at < now() - make_interval(secs => $3))
                -- What a dead run left damaged must not stop the living.
                AND p.items = (
                    SELECT count(*)
                    FROM draenei_content.staged_wallpapers AS s
                    WHERE s.audit_id = p.audit_id AND s.page = p.page AND s.reading = p.reading
                )
            )
        )
    RETURNING p.items
)
SELECT count(*)::int AS pages, COALESCE(sum(items), 0)::int AS items FROM taken;

-- name: met_items
-- What an earlier load of run $2 has met of the items of load $1, as a row or as a rejected one.
SELECT mine.item, ways.as_row
FROM (
    SELECT unnest(ids || rejected_items) AS item
    FROM draenei_content.staged_pages
    WHERE load_id = $1
) AS mine, (VALUES (TRUE), (FALSE)) AS ways (as_row)
-- Not a join: where a run has read much, a bad guess of its size would cost minutes.
INTERSECT
(
    SELECT unnest(p.ids), TRUE
    FROM draenei_content.run_loads AS l
    INNER JOIN draenei_content.staged_pages AS p ON p.load_id = l.id
    WHERE l.audit_id = $2 AND l.id <> $1
    UNION ALL
    SELECT unnest(p.rejected_items), FALSE
    FROM draenei_content.run_loads AS l
    INNER JOIN draenei_content.staged_pages AS p ON p.load_id = l.id
    WHERE l.audit_id = $2 AND l.id <> $1
);

-- name: count_staged
-- Rows in staging that belong to load $1, and the rejected among them that are not of the items $2.
SELECT
    count(*)::int AS items,
    (count(*) FILTER (
        WHERE s.code IS NOT NULL
            AND COALESCE(
                s.wallhaven_id, 'sha256:' || encode(sha256(convert_to(s.rejected, 'UTF8')), 'hex')
            ) <> ALL($2::text[])
    ))::int AS invalid
FROM draenei_content.staged_pages AS p
INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
WHERE p.load_id = $1;

-- name: merge_wallpapers
-- Merge the rows of load $1. The newest reading of an id wins; an unchanged row is not written;
-- ids are sorted, since concurrent merges in different order deadlock. What was true of an image
-- when it was stored stays: an address that came later is noted in `pending_url`. A new row joins
-- the backlog. The items $2, rows that an earlier load of the run has met, are merged and not counted.
WITH staged AS MATERIALIZED (
    SELECT DISTINCT ON (s.wallhaven_id COLLATE "C") s.*
    FROM draenei_content.staged_pages AS p
    INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
    WHERE p.load_id = $1 AND s.code IS NULL
    ORDER BY s.wallhaven_id COLLATE "C", p.fetched_at DESC, s.page DESC, s.position DESC
),
wanted AS (
    SELECT
        s.wallhaven_id,
        CASE WHEN w.s3_key IS NULL THEN s.url ELSE w.url END AS url,
        CASE WHEN w.s3_key IS NOT NULL AND s.url <> w.url THEN s.url END AS pending_url,
        CASE WHEN w.s3_key IS NULL THEN s.file_size ELSE w.file_size END AS file_size,
        CASE WHEN w.s3_key IS NULL THEN s.file_type ELSE w.file_type END AS file_type,
        s.page_url, s.short_url, s.source, s.category, s.purity, s.dimension_x, s.dimension_y,
        s.resolution, s.ratio, s.source_created_at, s.colors, s.thumb_large, s.thumb_original,
        s.thumb_small, s.raw
    FROM staged AS s
    -- LIMIT keeps this a look-up by key, whatever the planner believes of the sizes.
    LEFT JOIN LATERAL (
        SELECT * FROM draenei_content.wallpapers AS k
        WHERE k.wallhaven_id = s.wallhaven_id LIMIT 1
    ) AS w ON TRUE
    WHERE w.id IS NULL
        OR (CASE WHEN w.s3_key IS NULL
                THEN (w.url, w.file_size, w.file_type) IS DISTINCT FROM
                    (s.url, s.file_size, s.file_type)
                ELSE w.pending_url IS DISTINCT FROM NULLIF(s.url, w.url)
            END)
        OR (w.page_url, w.short_url, w.source, w.category, w.purity, w.dimension_x,
            w.dimension_y, w.resolution, w.ratio, w.source_created_at, w.colors,
            w.thumb_large, w.thumb_original, w.thumb_small, w.raw)
        IS DISTINCT FROM
           (s.page_url, s.short_url, s.source, s.category, s.purity, s.dimension_x,
            s.dimension_y, s.resolution, s.ratio, s.source_created_at, s.colors,
            s.thumb_large, s.thumb_original, s.thumb_small, s.raw)
),
merged AS (
    INSERT INTO draenei_content.wallpapers AS w (
        wallhaven_id, url, pending_url, file_size, file_type, page_url, short_url, source,
        category, purity, dimension_x, dimension_y, resolution, ratio, source_created_at,
        colors, thumb_large, thumb_original, thumb_small, raw
    )
    SELECT
        wallhaven_id, url, pending_url, file_size, file_type, page_url, short_url, source,
        category, purity, dimension_x, dimension_y, resolution, ratio, source_created_at,
        colors, thumb_large, thumb_original, thumb_small, raw
    FROM wanted
    ORDER BY wallhaven_id COLLATE "C"
    ON CONFLICT (wallhaven_id) DO UPDATE SET
        -- Asked again: the image may have been stored since the row was read above.
        url = CASE WHEN w.s3_key IS NULL THEN EXCLUDED.url ELSE w.url END,
        pending_url = EXCLUDED.pending_url,
        file_size = CASE WHEN w.s3_key IS NULL THEN EXCLUDED.file_size ELSE w.file_size END,
        file_type = CASE WHEN w.s3_key IS NULL THEN EXCLUDED.file_type ELSE w.file_type END,
        page_url = EXCLUDED.page_url,
        short_url = EXCLUDED.short_url,
        source = EXCLUDED.source,
        category = EXCLUDED.category,
        purity = EXCLUDED.purity,
        dimension_x = EXCLUDED.dimension_x,
        dimension_y = EXCLUDED.dimension_y,
        resolution = EXCLUDED.resolution,
        ratio = EXCLUDED.ratio,
        source_created_at = EXCLUDED.source_created_at,
        colors = EXCLUDED.colors,
        thumb_large = EXCLUDED.thumb_large,
        thumb_original = EXCLUDED.thumb_original,
        thumb_small = EXCLUDED.thumb_small,
        raw = EXCLUDED.raw,
        updated_at = now()
    WHERE (w.pending_url, w.page_url, w.short_url, w.source, w.category, w.purity,
            w.dimension_x, w.dimension_y, w.resolution, w.ratio, w.source_created_at, w.colors,
            w.thumb_large, w.thumb_original, w.thumb_small, w.raw)
        IS DISTINCT FROM
           (EXCLUDED.pending_url, EXCLUDED.page_url, EXCLUDED.short_url, EXCLUDED.source,
            EXCLUDED.category, EXCLUDED.purity, EXCLUDED.dimension_x, EXCLUDED.dimension_y,
            EXCLUDED.resolution, EXCLUDED.ratio, EXCLUDED.source_created_at, EXCLUDED.colors,
            EXCLUDED.thumb_large, EXCLUDED.thumb_original, EXCLUDED.thumb_small, EXCLUDED.raw)
        OR (w.s3_key IS NULL AND (w.url, w.file_size, w.file_type)
            IS DISTINCT FROM (EXCLUDED.url, EXCLUDED.file_size, EXCLUDED.file_type))
    -- A tuple that this statement made has no xmax; one that it updated has.
    RETURNING w.id, w.wallhaven_id, (w.xmax = 0) AS is_new
),
backlog AS (
    INSERT INTO draenei_content.transfers (wallpaper_id)
    SELECT id FROM merged WHERE is_new
    ON CONFLICT DO NOTHING
)
-- No join of what the statement itself has made: the planner knows no size of it.
SELECT
    (
        SELECT count(*)::int FROM staged WHERE wallhaven_id <> ALL($2::text[])
    ) AS distinct_items,
    count(*) FILTER (WHERE is_new)::int AS inserted,
    count(*) FILTER (WHERE NOT is_new)::int AS updated
FROM merged
WHERE wallhaven_id <> ALL($2::text[]);

-- name: merge_counters
-- Views and favourites of load $1, where they changed.
INSERT INTO draenei_content.wallpaper_counters AS c (wallpaper_id, views, favorites)
SELECT newest.id, newest.views, newest.favorites
FROM (
    SELECT DISTINCT ON (w.id) w.id, s.views, s.favorites
    FROM draenei_content.staged_pages AS p
    INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
    CROSS JOIN LATERAL (
        SELECT k.id FROM draenei_content.wallpapers AS k
        WHERE k.wallhaven_id = s.wallhaven_id LIMIT 1
    ) AS w
    WHERE p.load_id = $1 AND s.code IS NULL AND (s.views, s.favorites) IS DISTINCT FROM (NULL, NULL)
    ORDER BY w.id, p.fetched_at DESC, s.page DESC, s.position DESC
) AS newest
-- Asked here and not only below: a row that ON CONFLICT meets is locked, and that is a write.
LEFT JOIN LATERAL (
    SELECT views, favorites FROM draenei_content.wallpaper_counters
    WHERE wallpaper_id = newest.id LIMIT 1
) AS k ON TRUE
WHERE (k.views, k.favorites) IS DISTINCT FROM (newest.views, newest.favorites)
ORDER BY newest.id
ON CONFLICT (wallpaper_id) DO UPDATE SET
    views = EXCLUDED.views,
    favorites = EXCLUDED.favorites,
    seen_at = now()
WHERE (c.views, c.favorites) IS DISTINCT FROM (EXCLUDED.views, EXCLUDED.favorites);

-- name: bury_rejected
-- One open dead letter for each rejected item of load $1, by run $2.
INSERT INTO draenei_content.dead_letters AS d (
    stage, item, wallhaven_id, code, reason, raw, audit_id, run_id
)
SELECT DISTINCT ON (item) 'load', item, wallhaven_id, code, reason, rejected, a.id, a.run_id
FROM (
    SELECT
        s.*,
        COALESCE(
            s.wallhaven_id,
            'sha256:' || encode(sha256(convert_to(s.rejected, 'UTF8')), 'hex')
        ) AS item
    FROM draenei_content.staged_pages AS p
    INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
    WHERE p.load_id = $1 AND s.code IS NOT NULL
) AS rejected_items, draenei_content.run_audit AS a
WHERE a.id = $2
ORDER BY item
ON CONFLICT (stage, item) WHERE resolved_at IS NULL DO UPDATE SET
    code = EXCLUDED.code,
    reason = EXCLUDED.reason,
    raw = EXCLUDED.raw,
    attempts = d.attempts + 1,
    last_failed_at = now(),
    audit_id = EXCLUDED.audit_id,
    run_id = EXCLUDED.run_id;

-- name: resolve_loaded
-- An item of load $1 that has become a row is no dead letter any more.
UPDATE draenei_content.dead_letters AS d
SET resolved_at = now()
FROM draenei_content.staged_pages AS p
INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
WHERE p.load_id = $1
    AND s.code IS NULL
    AND d.stage = 'load'
    AND d.item = s.wallhaven_id
    AND d.resolved_at IS NULL;

-- name: empty_staging
-- Delete the staged rows of load $1; its pages stay in the ledger.
DELETE FROM draenei_content.staged_wallpapers AS s
USING draenei_content.staged_pages AS p
WHERE p.load_id = $1
    AND s.audit_id = p.audit_id
    AND s.page = p.page
    AND s.reading = p.reading;

-- name: move_watermarks
-- The pages of load $1 are rows now: searches whose reading is merged whole get its watermark.
UPDATE draenei_content.searches AS s
SET newest_ids = read_ids, newest_audit_id = read_audit_id, updated_at = now()
WHERE s.read_audit_id IN (
    SELECT p.audit_id FROM draenei_content.staged_pages AS p WHERE p.load_id = $1
)
AND NOT EXISTS (
    SELECT FROM draenei_content.staged_pages AS p
    WHERE p.audit_id = s.read_audit_id AND p.load_id IS NULL
);

-- name: end_load
-- Note what load $1 did: $2 pages, $3 inserted, $4 updated, $5 unchanged, $6 invalid,
-- $7 duplicates.
UPDATE draenei_content.run_loads SET
    pages = $2,
    inserted = $3,
    updated = $4,
    unchanged = $5,
    invalid = $6,
    duplicates = $7
WHERE id = $1;
