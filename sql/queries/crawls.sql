-- name: find_crawl
-- The newest crawl of pages $2 to $3 (NULL: the end) of search $1, and the run that reads them.
SELECT c.audit_id AS audit_id, a.dag_id, a.run_id, c.verdict
FROM draenei_content.crawls AS c
INNER JOIN draenei_content.run_audit AS a ON a.id = c.audit_id
WHERE c.search_key = $1 AND c.from_page = $2 AND c.to_page IS NOT DISTINCT FROM $3
ORDER BY c.ended_at IS NULL DESC, c.begun_at DESC
LIMIT 1;

-- name: last_crawls
-- The newest $1 backfills, with the pages that they have read: as their certificate says it, where the
-- ledger is trimmed.
SELECT
    a.run_id,
    c.search_key AS search,
    c.from_page,
    c.to_page,
    COALESCE(
        NULLIF(count(DISTINCT p.page), 0)::int, (a.report -> 'certificate' ->> 'pages')::int, 0
    ) AS pages,
    max(p.last_page) AS last_page,
    COALESCE(c.verdict, 'open') AS verdict
FROM draenei_content.crawls AS c
INNER JOIN draenei_content.run_audit AS a ON a.id = c.audit_id
LEFT JOIN draenei_content.staged_pages AS p ON p.audit_id = c.audit_id
GROUP BY a.id, c.audit_id
ORDER BY c.begun_at DESC
LIMIT $1;

-- name: begin_crawl
-- Run $1 begins to read pages $3 to $4 of search $2, or goes on; $5: the list is oldest first.
INSERT INTO draenei_content.crawls (audit_id, search_key, from_page, to_page, is_oldest_first)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (audit_id) DO NOTHING;

-- name: reopen_crawl
-- The crawl of run $1 goes on if pages that could not be read have left it incomplete: they are tried
-- anew, as if they had never been asked for.
WITH reopened AS (
    UPDATE draenei_content.crawls
    SET verdict = NULL, ended_at = NULL
    WHERE audit_id = $1
        AND verdict = 'incomplete'
        AND EXISTS (SELECT FROM draenei_content.unreadable_pages WHERE audit_id = $1)
    RETURNING audit_id
)
DELETE FROM draenei_content.unreadable_pages
WHERE audit_id IN (SELECT audit_id FROM reopened);

-- name: renew_attempts
-- Run $1 is gone on with: what its earlier calls tried may be tried again, as often as by a new run.
UPDATE draenei_content.transfers
SET run_attempts = 0
WHERE last_audit_id = $1 AND run_attempts > 0;

-- name: end_crawl
-- The crawl of run $1 has its verdict, $2. No row where an image that the run tried is neither
-- stored nor given up: the crawl stays open.
UPDATE draenei_content.crawls
SET verdict = $2, ended_at = clock_timestamp()
WHERE audit_id = $1
    AND NOT EXISTS (
        SELECT FROM draenei_content.transfers WHERE last_audit_id = $1 AND state <> 'dead'
    )
RETURNING audit_id;

-- name: take_reading
-- Only one session reads the crawl of run $1; it ends with the session at the latest.
SELECT pg_try_advisory_lock(hashtextextended('draenei_content.crawls', $1));

-- name: keep_reading
-- The session that reads a crawl has nothing else to say for hours, and says that it lives.
SELECT TRUE AS is_alive;

-- name: end_reading
-- Another session may read the crawl of run $1.
SELECT pg_advisory_unlock(hashtextextended('draenei_content.crawls', $1));

-- name: join_watermark
-- The crawl of run $1 has read all of a list, which is search $2 when its newest items come first:
-- what is behind the items that the crawl saw last on its last pages is known.
INSERT INTO draenei_content.searches (
    search_key, newest_ids, newest_audit_id, read_ids, read_audit_id
)
SELECT $2, ids, $1, ids, $1
FROM (
    SELECT array_agg(DISTINCT item) AS ids
    FROM (
        SELECT ids FROM draenei_content.staged_pages
        WHERE audit_id = $1 AND cardinality(ids) > 0
        ORDER BY page DESC, reading DESC
        LIMIT 2
    ) AS newest, unnest(newest.ids) AS listed (item)
) AS last_pages
WHERE ids IS NOT NULL
ON CONFLICT (search_key) DO UPDATE SET
    newest_ids = EXCLUDED.newest_ids,
    newest_audit_id = EXCLUDED.newest_audit_id,
    read_ids = EXCLUDED.read_ids,
    read_audit_id = EXCLUDED.read_audit_id,
    updated_at = now();

-- name: crawled_pages
-- The pages that run $1 has read, and those that it could not read, in their order. Ids only where they
-- may still join two slices: of pages that were read again, or before the page above them, or below
-- one that was empty.
SELECT
    p.page AS number, p.reading, p.search_key, p.items, p.invalid, p.known, p.last_page, p.total,
    p.per_page,
    CASE
        WHEN
            p.reading > 1 OR above.page IS NULL OR above.items = 0
            OR above.fetched_at > p.fetched_at
            THEN p.ids
        ELSE '{}'
    END AS ids,
    NULL AS problem, p.fetched_at AS came_at
FROM draenei_content.staged_pages AS p
LEFT JOIN draenei_content.staged_pages AS above
    ON above.audit_id = p.audit_id AND above.page = p.page + 1 AND above.reading = 1
WHERE p.audit_id = $1
UNION ALL
SELECT
    page, NULL, search_key, NULL, NULL, NULL, last_page, total, NULL, NULL, problem, failed_at
FROM draenei_content.unreadable_pages
WHERE audit_id = $1
ORDER BY came_at, number;

-- name: crawl_facts
-- What the ledger says of the crawl of run $1; no row where the run is none. A border is unproven
-- where the page above it was read, and the page below it not again since. Where two pages in a row
-- came empty behind all that have items, the list ends before them, whatever it says of itself.
WITH readings AS (
    SELECT * FROM draenei_content.staged_pages WHERE audit_id = $1
),
pages AS (
    SELECT
        page,
        min(fetched_at) AS first_at,
        max(fetched_at) AS last_at,
        max(items) AS items,
        (array_agg(items ORDER BY fetched_at DESC))[1] AS items_at_last
    FROM readings
    GROUP BY page
),
words AS (
    SELECT page, last_page, total, fetched_at AS came_at FROM readings
    UNION ALL
    SELECT page, last_page, total, failed_at
    FROM draenei_content.unreadable_pages
    WHERE audit_id = $1
),
newest AS (
    SELECT last_page, total FROM words ORDER BY came_at DESC, page LIMIT 1
),
highest AS (
    SELECT COALESCE(max(page), 0) AS page FROM pages WHERE items_at_last > 0
),
ends AS (
    SELECT
        CASE
            WHEN (
                SELECT count(*) = 2 FROM pages
                WHERE page IN (highest.page + 1, highest.page + 2) AND items_at_last = 0
            )
                THEN LEAST(newest.last_page, highest.page)
            ELSE newest.last_page
        END AS last_page,
        newest.last_page AS said
    FROM newest, highest
)
SELECT
    c.from_page,
    c.to_page,
    c.is_oldest_first,
    COALESCE((SELECT last_page FROM ends), 0) AS last_page,
    (SELECT count(*)::int FROM pages) AS pages,
    (SELECT count(*)::int FROM readings) AS readings,
    (SELECT COALESCE(sum(items), 0)::int FROM readings) AS listed,
    (
        SELECT count(DISTINCT item)::int
        FROM readings, unnest(ids || rejected_items) AS listed (item)
    ) AS seen,
    (SELECT total FROM words ORDER BY came_at, page LIMIT 1) AS total_at_start,
    (
        SELECT readings.total FROM readings, ends
        WHERE readings.page >= LEAST(readings.last_page, ends.last_page)
        ORDER BY readings.fetched_at DESC, readings.page
        LIMIT 1
    ) AS total_at_last_look,
    (SELECT total FROM newest) AS total_at_end,
    COALESCE((SELECT min(total) = max(total) FROM words), TRUE) AS is_quiet,
    (
        SELECT count(*)::int
        FROM pages AS lower
        INNER JOIN pages AS upper ON upper.page = lower.page + 1
        CROSS JOIN ends
        WHERE lower.last_at <= upper.first_at
            AND (upper.page <= ends.last_page + 1 OR ends.last_page = ends.said)
    ) AS unproven_borders,
    ARRAY(
        SELECT pages.page
        FROM pages, ends, (SELECT per_page FROM readings ORDER BY fetched_at DESC LIMIT 1) AS full_page
        WHERE pages.page < ends.last_page AND pages.items < full_page.per_page
        ORDER BY pages.page
    ) AS short_pages
FROM draenei_content.crawls AS c
WHERE c.audit_id = $1;
