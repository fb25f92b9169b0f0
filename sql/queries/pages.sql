-- name: covered_pages
-- The pages that run $1 has staged, merged or not, and those that it could not read, as they came.
SELECT
    page AS number, reading, search_key, items, invalid, known, ids, last_page, total, per_page,
    NULL AS problem, fetched_at AS came_at
FROM draenei_content.staged_pages
WHERE audit_id = $1
UNION ALL
SELECT
    page, NULL, search_key, NULL, NULL, NULL, NULL, last_page, total, NULL, problem, failed_at
FROM draenei_content.unreadable_pages
WHERE audit_id = $1
ORDER BY came_at, number;

-- name: watermark
-- The ids on the first page of search $1 in its last reading that was merged without a hole.
SELECT newest_ids FROM draenei_content.searches WHERE search_key = $1;

-- name: pages_above
-- The pages of search $1 that runs before run $2 have read since its watermark was set. Between
-- them and the watermark is a gap.
SELECT
    p.audit_id, p.page AS number, p.reading, p.search_key, p.items, p.invalid, p.known, p.ids,
    p.last_page, p.total, p.per_page
FROM draenei_content.staged_pages AS p
INNER JOIN draenei_content.searches AS s USING (search_key)
WHERE p.search_key = $1 AND p.audit_id > s.newest_audit_id AND p.audit_id < $2
ORDER BY p.audit_id DESC, p.fetched_at, p.page;

-- name: has_read
-- Whether run $1 is the last one that read search $2 without a hole.
SELECT TRUE FROM draenei_content.searches WHERE read_audit_id = $1 AND search_key = $2;

-- name: note_reading
-- Run $1 has read search $2 without a hole; its first page had the ids $3, which become the
-- watermark once its pages are merged.
INSERT INTO draenei_content.searches (read_audit_id, search_key, read_ids)
VALUES ($1, $2, $3)
ON CONFLICT (search_key) DO UPDATE SET
    read_ids = EXCLUDED.read_ids,
    read_audit_id = EXCLUDED.read_audit_id,
    updated_at = now();

-- name: listed_before
-- The rows of the items $1 as they were last merged; no row for unknown items.
SELECT w.wallhaven_id, w.listed_digest, c.views, c.favorites
FROM unnest($1::text[]) AS listed (wallhaven_id)
-- LIMIT forces a look-up by key: a plan made while the table was small would read all of it.
CROSS JOIN LATERAL (
    SELECT k.id, k.wallhaven_id, k.listed_digest
    FROM draenei_content.wallpapers AS k
    WHERE k.wallhaven_id = listed.wallhaven_id LIMIT 1
) AS w
LEFT JOIN LATERAL (
    SELECT k.views, k.favorites
    FROM draenei_content.wallpaper_counters AS k
    WHERE k.wallpaper_id = w.id LIMIT 1
) AS c ON TRUE;

-- name: note_page
-- Add a page of search $7 to the ledger of run $1: $2 page, $8 number of this reading of it, $3
-- items, $4 last_page, $5 total, $9 per_page, $6 ids of its items, $10 names of the rejected ones,
-- $11 how many of its items have rows already, $12 how many were staged. No row if the ledger has
-- this reading already.
INSERT INTO draenei_content.staged_pages (
    audit_id, page, items, last_page, total, ids, invalid, search_key, reading, per_page,
    rejected_items, known, staged, fetched_at
)
VALUES (
    $1, $2, $3, $4, $5, $6::text[], $3 - cardinality($6::text[]), $7, $8, $9,
    $10::text[], $11, $12, clock_timestamp()
)
ON CONFLICT (audit_id, page, reading) DO NOTHING
RETURNING
    audit_id, page AS number, reading, search_key, items, invalid, known, ids, last_page, total,
    per_page;

-- name: note_unreadable
-- Run $1 could not read page $2 of search $3, which should exist: another page announced $4 pages
-- and $5 items in total. $6: the problem.
INSERT INTO draenei_content.unreadable_pages (
    audit_id, page, search_key, last_page, total, problem
)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: unreadable_pages
-- The pages that run $1 could not read and has not read since, and that the list still has
-- according to the newest answer.
SELECT DISTINCT u.page
FROM draenei_content.unreadable_pages AS u
WHERE u.audit_id = $1
    AND NOT EXISTS (
        SELECT FROM draenei_content.staged_pages AS p
        WHERE p.audit_id = $1 AND p.page = u.page AND p.fetched_at > u.failed_at
    )
    AND u.page <= (
        SELECT said.last_page
        FROM (
            (
                SELECT last_page, fetched_at AS came_at FROM draenei_content.staged_pages
                WHERE audit_id = $1
                ORDER BY fetched_at DESC, page
                LIMIT 1
            )
            UNION ALL
            (
                SELECT last_page, failed_at FROM draenei_content.unreadable_pages
                WHERE audit_id = $1
                ORDER BY failed_at DESC, page
                LIMIT 1
            )
        ) AS said
        ORDER BY said.came_at DESC
        LIMIT 1
    )
ORDER BY u.page;

-- name: covered_page
-- Reading $3 of page $2 of run $1.
SELECT page AS number, reading, search_key, items, invalid, known, ids, last_page, total, per_page
FROM draenei_content.staged_pages
WHERE audit_id = $1 AND page = $2 AND reading = $3;

-- name: search_total
-- The total of search $1 when it was last requested, and how long ago that was.
SELECT total, extract(EPOCH FROM clock_timestamp() - asked_at)::double precision AS age_seconds
FROM draenei_content.search_totals
WHERE search_key = $1;

-- name: note_search_total
-- Search $1 has $2 wallpapers.
INSERT INTO draenei_content.search_totals (search_key, total)
VALUES ($1, $2)
ON CONFLICT (search_key) DO UPDATE SET total = EXCLUDED.total, asked_at = clock_timestamp();
