-- name: unmerged_pages
-- The unmerged pages of run $1, the oldest first.
SELECT page, reading, items
FROM draenei_content.staged_pages
WHERE audit_id = $1 AND load_id IS NULL
ORDER BY fetched_at, page, reading;

-- name: leftover_pages
-- The unmerged pages of ended runs other than $1, by run, the oldest first. `is_whole`: all rows
-- that were staged with the page still exist.
SELECT
    p.audit_id, a.run_id, p.page, p.reading, p.items,
    p.staged = (
        SELECT count(*)
        FROM draenei_content.staged_wallpapers AS s
        WHERE s.audit_id = p.audit_id AND s.page = p.page AND s.reading = p.reading
    ) AS is_whole
FROM draenei_content.staged_pages AS p
INNER JOIN draenei_content.run_audit AS a ON a.id = p.audit_id
WHERE p.load_id IS NULL AND p.audit_id <> $1 AND a.status <> 'running'
ORDER BY p.audit_id, p.fetched_at, p.page, p.reading;

-- name: lock_merge
-- One transaction at a time merges pages of run $1, so a newer page never overtakes an older one.
SELECT pg_advisory_xact_lock(hashtextextended('draenei_content.staged_pages', $1));

-- name: take_pages
-- Run $1 takes pages of run $2 for one load: $3 pages, $4 readings. Not pages that another process
-- has merged meanwhile, nor pages of another run that was resumed. `load_id` is NULL if no page is
-- left.
WITH picked AS MATERIALIZED (
    SELECT p.page, p.reading
    FROM unnest($3::int[], $4::int[]) AS wanted (page, reading)
    INNER JOIN draenei_content.staged_pages AS p USING (page, reading)
    INNER JOIN draenei_content.run_audit AS a ON a.id = p.audit_id
    WHERE p.audit_id = $2 AND p.load_id IS NULL AND (p.audit_id = $1 OR a.status <> 'running')
),
load AS (
    INSERT INTO draenei_content.run_loads (audit_id)
    SELECT $1 WHERE EXISTS (SELECT FROM picked)
    RETURNING id
),
taken AS (
    UPDATE draenei_content.staged_pages AS p
    SET load_id = load.id
    FROM picked, load
    WHERE p.audit_id = $2
        AND p.page = picked.page
        AND p.reading = picked.reading
        AND p.load_id IS NULL
    RETURNING p.staged
)
SELECT
    (SELECT id FROM load) AS load_id,
    count(*)::int AS pages,
    COALESCE(sum(staged), 0)::int AS staged
FROM taken;

-- name: count_staged
-- How many staged rows belong to load $1, and how many of them are rejects. `has_newer`: there are
-- newer pages that `drop_outdated` must check.
SELECT
    count(*)::int AS staged,
    count(s.code)::int AS rejected,
    COALESCE(
        (
            SELECT max(fetched_at) FROM draenei_content.staged_pages
            WHERE load_id <> $1 OR (load_id IS NULL AND known > 0)
        ) > (SELECT min(fetched_at) FROM draenei_content.staged_pages WHERE load_id = $1),
        FALSE
    ) AS has_newer
FROM draenei_content.staged_pages AS p
INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
WHERE p.load_id = $1;

-- name: drop_outdated
-- Drop rows of load $1 about known wallpapers that a newer page lists: a page that was merged
-- before, or one with known items, of which it may have staged only the counters. The newer listing
-- wins.
WITH taken AS MATERIALIZED (
    SELECT audit_id, page, reading, fetched_at
    FROM draenei_content.staged_pages
    WHERE load_id = $1
),
-- One pass over both, by item: the planner does not know their sizes and would plan a join badly.
listings AS (
    SELECT listed.item, p.fetched_at AS newer_at, NULL::tid AS row_id, NULL::timestamptz AS staged_at
    FROM draenei_content.staged_pages AS p, unnest(p.ids) AS listed (item)
    WHERE p.fetched_at > (SELECT min(fetched_at) FROM taken)
        AND (p.load_id <> $1 OR (p.load_id IS NULL AND p.known > 0))
    UNION ALL
    SELECT s.wallhaven_id, NULL, s.ctid, t.fetched_at
    FROM taken AS t
    INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
    WHERE s.code IS NULL
),
outdated AS (
    SELECT l.row_id
    FROM (SELECT *, max(newer_at) OVER (PARTITION BY item) AS newest_at FROM listings) AS l
    CROSS JOIN LATERAL (
        SELECT FROM draenei_content.wallpapers AS k WHERE k.wallhaven_id = l.item LIMIT 1
    ) AS w
    WHERE l.newest_at > l.staged_at
)
DELETE FROM draenei_content.staged_wallpapers
WHERE ctid = ANY(ARRAY(SELECT row_id FROM outdated));

-- name: merge_wallpapers
-- Merge the rows of load $1. The newest listing of an id wins, even if it had no changes and was
-- not staged. A row with the same digest is not written. Ids are sorted, since concurrent merges in
-- different order deadlock. The URL, size and type of a stored image stay: a later URL is noted in
-- `pending_url`. A new row joins the backlog. A given-up image that now has another URL, size or
-- type is due again, and its dead letter is closed. Returns how many rows are new, and which other
-- rows changed, except rows that run $2 added itself.
WITH newest AS MATERIALIZED (
    SELECT DISTINCT ON (listed.item COLLATE "C")
        listed.item AS wallhaven_id, p.audit_id, p.page, p.reading, p.fetched_at
    FROM draenei_content.staged_pages AS p, unnest(p.ids) AS listed (item)
    WHERE p.load_id = $1
    ORDER BY listed.item COLLATE "C", p.fetched_at DESC, p.page DESC
),
wanted AS (
    SELECT
        s.wallhaven_id, s.url, s.file_size, s.file_type, s.page_url, s.short_url, s.source,
        s.category, s.purity, s.dimension_x, s.dimension_y, s.resolution, s.ratio,
        s.source_created_at, s.colors, s.thumb_large, s.thumb_original, s.thumb_small, s.raw,
        s.listed_digest, newest.fetched_at AS listed_at
    FROM newest
    -- The last one, if a page has an item twice. Here and below, LIMIT forces a look-up by key: the
    -- planner's statistics do not cover rows that were staged a moment ago.
    CROSS JOIN LATERAL (
        SELECT *
        FROM draenei_content.staged_wallpapers AS k
        WHERE k.audit_id = newest.audit_id
            AND k.page = newest.page
            AND k.reading = newest.reading
            AND k.wallhaven_id = newest.wallhaven_id
            AND k.url IS NOT NULL
        ORDER BY k.position DESC LIMIT 1
    ) AS s
    LEFT JOIN LATERAL (
        SELECT k.listed_digest, k.listed_at
        FROM draenei_content.wallpapers AS k
        WHERE k.wallhaven_id = s.wallhaven_id LIMIT 1
    ) AS w ON TRUE
    WHERE (w.listed_digest = s.listed_digest) IS NOT TRUE
        -- Pages that a dead run left may be older than what others have merged.
        AND (w.listed_at > newest.fetched_at) IS NOT TRUE
),
merged AS (
    INSERT INTO draenei_content.wallpapers AS w (
        wallhaven_id, url, file_size, file_type, page_url, short_url, source,
        category, purity, dimension_x, dimension_y, resolution, ratio, source_created_at,
        colors, thumb_large, thumb_original, thumb_small, raw, listed_digest, listed_at,
        first_audit_id
    )
    SELECT wanted.*, $2
    FROM wanted
    ORDER BY wallhaven_id COLLATE "C"
    ON CONFLICT (wallhaven_id) DO UPDATE SET
        -- Checked here, on the row as it is now: its image may have just been stored.
        url = CASE WHEN w.s3_key IS NULL THEN EXCLUDED.url ELSE w.url END,
        pending_url = CASE WHEN w.s3_key IS NOT NULL THEN NULLIF(EXCLUDED.url, w.url) END,
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
        listed_digest = EXCLUDED.listed_digest,
        listed_at = EXCLUDED.listed_at,
        -- A row without a digest may still equal its listing.
        updated_at = CASE
            WHEN w.pending_url IS DISTINCT FROM
                    CASE WHEN w.s3_key IS NOT NULL THEN NULLIF(EXCLUDED.url, w.url) END
                OR (w.page_url, w.short_url, w.source, w.category, w.purity,
                    w.dimension_x, w.dimension_y, w.resolution, w.ratio, w.source_created_at,
                    w.colors, w.thumb_large, w.thumb_original, w.thumb_small, w.raw)
                IS DISTINCT FROM
                   (EXCLUDED.page_url, EXCLUDED.short_url, EXCLUDED.source,
                    EXCLUDED.category, EXCLUDED.purity, EXCLUDED.dimension_x,
                    EXCLUDED.dimension_y, EXCLUDED.resolution, EXCLUDED.ratio,
                    EXCLUDED.source_created_at, EXCLUDED.colors, EXCLUDED.thumb_large,
                    EXCLUDED.thumb_original, EXCLUDED.thumb_small, EXCLUDED.raw)
                OR (w.s3_key IS NULL AND (w.url, w.file_size, w.file_type)
                    IS DISTINCT FROM (EXCLUDED.url, EXCLUDED.file_size, EXCLUDED.file_type))
            THEN now()
            ELSE w.updated_at
        END
    WHERE (w.listed_digest = EXCLUDED.listed_digest) IS NOT TRUE
        AND (w.listed_at > EXCLUDED.listed_at) IS NOT TRUE
    RETURNING
        w.id, w.wallhaven_id, w.first_audit_id, w.url, w.file_size, w.file_type,
        -- A row that this statement inserted has no xmax; one that it updated has.
        (w.xmax = 0) AS is_new,
        (w.updated_at IS NOT DISTINCT FROM now()) AS has_changed
),
backlog AS (
    INSERT INTO draenei_content.transfers (wallpaper_id, listed_audit_id)
    SELECT merged.id, newest.audit_id
    FROM merged
    INNER JOIN newest USING (wallhaven_id)
    WHERE merged.is_new
    ON CONFLICT DO NOTHING
),
other_images AS (
    SELECT m.id, m.wallhaven_id
    FROM merged AS m
    -- The row before this statement.
    CROSS JOIN LATERAL (
        SELECT k.url, k.file_size, k.file_type
        FROM draenei_content.wallpapers AS k
        WHERE k.id = m.id LIMIT 1
    ) AS old
    WHERE m.has_changed
        AND (m.url, m.file_size, m.file_type)
        IS DISTINCT FROM (old.url, old.file_size, old.file_type)
),
requeued AS (
    UPDATE draenei_content.transfers SET
        state = 'pending',
        next_attempt_at = now(),
        attempts = 0,
        run_attempts = 0,
        last_audit_id = NULL
    -- An array forces a look-up by key.
    WHERE state = 'dead' AND wallpaper_id = ANY(ARRAY(SELECT id FROM other_images))
    RETURNING wallpaper_id
),
resolved AS (
    UPDATE draenei_content.dead_letters
    SET resolved_at = clock_timestamp()
    WHERE stage = 'transfer'
        AND resolved_at IS NULL
        AND item = ANY(ARRAY(
            SELECT o.wallhaven_id
            FROM requeued AS r
            INNER JOIN other_images AS o ON o.id = r.wallpaper_id
        ))
)
SELECT
    count(*) FILTER (WHERE is_new)::int AS inserted,
    COALESCE(
        array_agg(wallhaven_id) FILTER (
            WHERE has_changed AND NOT is_new AND first_audit_id IS DISTINCT FROM $2
        ),
        '{}'
    ) AS updated_items
FROM merged;

-- name: merge_counters
-- Merge views and favourites of load $1 that changed and were not updated by a later listing.
INSERT INTO draenei_content.wallpaper_counters AS c (wallpaper_id, views, favorites, seen_at)
SELECT newest.id, newest.views, newest.favorites, newest.fetched_at
FROM (
    SELECT w.id, s.views, s.favorites, last_listed.fetched_at
    FROM (
        SELECT DISTINCT ON (listed.item COLLATE "C")
            listed.item AS wallhaven_id, p.audit_id, p.page, p.reading, p.fetched_at
        FROM draenei_content.staged_pages AS p, unnest(p.ids) AS listed (item)
        WHERE p.load_id = $1
        ORDER BY listed.item COLLATE "C", p.fetched_at DESC, p.page DESC
    ) AS last_listed
    CROSS JOIN LATERAL (
        SELECT k.views, k.favorites
        FROM draenei_content.staged_wallpapers AS k
        WHERE k.audit_id = last_listed.audit_id
            AND k.page = last_listed.page
            AND k.reading = last_listed.reading
            AND k.wallhaven_id = last_listed.wallhaven_id
            AND k.code IS NULL
            AND (k.views, k.favorites) IS DISTINCT FROM (NULL, NULL)
        ORDER BY k.position DESC LIMIT 1
    ) AS s
    CROSS JOIN LATERAL (
        SELECT k.id FROM draenei_content.wallpapers AS k
        WHERE k.wallhaven_id = last_listed.wallhaven_id LIMIT 1
    ) AS w
) AS newest
-- Checked here and not only below: ON CONFLICT locks the row, which is a write.
LEFT JOIN LATERAL (
    SELECT views, favorites FROM draenei_content.wallpaper_counters
    WHERE wallpaper_id = newest.id LIMIT 1
) AS k ON TRUE
WHERE (k.views, k.favorites) IS DISTINCT FROM (newest.views, newest.favorites)
ORDER BY newest.id
ON CONFLICT (wallpaper_id) DO UPDATE SET
    views = EXCLUDED.views,
    favorites = EXCLUDED.favorites,
    seen_at = EXCLUDED.seen_at
WHERE (c.views, c.favorites) IS DISTINCT FROM (EXCLUDED.views, EXCLUDED.favorites)
    AND c.seen_at <= EXCLUDED.seen_at;

-- name: give_up_rejected
-- One open dead letter for each rejected item of load $1, by run $2. Not for an item that is
-- accepted on a newer page that this run has merged.
WITH rejected_items AS MATERIALIZED (
    SELECT DISTINCT ON (item) *
    FROM (
        SELECT
            s.wallhaven_id, s.code, s.reason, s.rejected, p.fetched_at,
            COALESCE(
                s.wallhaven_id,
                'sha256:' || encode(sha256(convert_to(s.rejected, 'UTF8')), 'hex')
            ) AS item
        FROM draenei_content.staged_pages AS p
        INNER JOIN draenei_content.staged_wallpapers AS s USING (audit_id, page, reading)
        WHERE p.load_id = $1 AND s.code IS NOT NULL
    ) AS named
    ORDER BY item, fetched_at DESC
),
listed AS MATERIALIZED (
    SELECT r.item
    FROM draenei_content.run_loads AS l
    INNER JOIN draenei_content.staged_pages AS p ON p.load_id = l.id
    CROSS JOIN unnest(p.ids) AS listed (item)
    INNER JOIN rejected_items AS r ON r.item = listed.item AND r.fetched_at < p.fetched_at
    WHERE l.audit_id = $2
)
INSERT INTO draenei_content.dead_letters AS d (
    stage, item, wallhaven_id, code, reason, raw, audit_id, run_id
)
SELECT 'load', r.item, r.wallhaven_id, r.code, r.reason, r.rejected, a.id, a.run_id
FROM rejected_items AS r, draenei_content.run_audit AS a
WHERE a.id = $2 AND NOT EXISTS (SELECT FROM listed WHERE listed.item = r.item)
ORDER BY r.item
ON CONFLICT (stage, item) WHERE resolved_at IS NULL DO UPDATE SET
    code = EXCLUDED.code,
    reason = EXCLUDED.reason,
    raw = EXCLUDED.raw,
    attempts = d.attempts + 1,
    last_failed_at = now(),
    audit_id = EXCLUDED.audit_id,
    run_id = EXCLUDED.run_id;

-- name: resolve_loaded
-- Resolve dead letters of items that load $1 of run $2 accepted, unless another run has rejected
-- the item since it was listed.
UPDATE draenei_content.dead_letters AS d
SET resolved_at = now()
FROM draenei_content.staged_pages AS p, unnest(p.ids) AS listed (item)
WHERE p.load_id = $1
    AND d.stage = 'load'
    AND d.item = listed.item
    AND d.resolved_at IS NULL
    AND (d.audit_id = $2 OR p.fetched_at > d.last_failed_at);

-- name: empty_staging
-- Delete the staged rows of load $1; its pages stay in the ledger.
DELETE FROM draenei_content.staged_wallpapers AS s
USING draenei_content.staged_pages AS p
WHERE p.load_id = $1
    AND s.audit_id = p.audit_id
    AND s.page = p.page
    AND s.reading = p.reading;

-- name: move_watermarks
-- After load $1: searches whose last reading is merged completely get its watermark.
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
-- Note the result of load $1: $2 pages, $3 inserted rows, $4 ids of changed rows.
UPDATE draenei_content.run_loads SET pages = $2, inserted = $3, updated_items = $4 WHERE id = $1;

-- name: loaded
-- The result of all loads of run $1 together, from the ledger of their pages: each item counts
-- once, by its best outcome; further listings of it are duplicates.
WITH loads AS (
    SELECT * FROM draenei_content.run_loads WHERE audit_id = $1
),
pages AS (
    SELECT p.ids, p.rejected_items, p.items, p.invalid
    FROM draenei_content.staged_pages AS p
    WHERE p.load_id IN (SELECT id FROM loads)
),
listed AS (
    SELECT DISTINCT item FROM pages, unnest(ids) AS listed (item)
),
rejected AS (
    SELECT item FROM pages, unnest(rejected_items) AS rejected (item)
    EXCEPT
    SELECT item FROM listed
),
counts AS (
    SELECT
        (SELECT count(*)::int FROM pages) AS pages,
        (SELECT COALESCE(sum(items), 0)::int FROM pages) AS items,
        (SELECT count(*)::int FROM listed) AS listed,
        -- The oldest pages record how many items were rejected, but not which.
        (
            (SELECT count(*) FROM rejected)
            + (SELECT COALESCE(sum(invalid), 0) FROM pages WHERE rejected_items = '{}')
        )::int AS invalid,
        (SELECT COALESCE(sum(inserted), 0)::int FROM loads) AS inserted,
        -- The oldest loads record how many rows they changed, but not which.
        (
            (SELECT count(DISTINCT item) FROM loads, unnest(updated_items) AS updated (item))
            + (SELECT COALESCE(sum(updated), 0) FROM loads)
        )::int AS updated
)
SELECT
    pages,
    inserted,
    updated,
    listed - inserted - updated AS unchanged,
    invalid,
    items - listed - invalid AS duplicates
FROM counts;
