-- name: find_crawl
-- The open or else newest crawl of pages $2 to $3 (NULL: the last) of search $1, and its run.
SELECT c.audit_id AS audit_id, a.dag_id, a.run_id, c.verdict
FROM draenei_content.crawls AS c
INNER JOIN draenei_content.run_audit AS a ON a.id = c.audit_id
WHERE c.search_key = $1 AND c.from_page = $2 AND c.to_page IS NOT DISTINCT FROM $3
ORDER BY c.ended_at IS NULL DESC, c.begun_at DESC
LIMIT 1;

-- name: last_crawls
-- The newest $1 backfills and how many pages they have read, from their certificates if the ledger
-- is trimmed.
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
-- Run $1 begins or resumes reading pages $3 to $4 of search $2; $5: the list is oldest first.
INSERT INTO draenei_content.crawls (audit_id, search_key, from_page, to_page, is_oldest_first)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (audit_id) DO NOTHING;

-- name: reopen_crawl
-- Reopen the crawl of run $1 if unreadable pages left it incomplete, and forget that they were
-- unreadable.
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
-- Run $1 is resumed: it may attempt its items again, as often as a new run.
UPDATE draenei_content.transfers
SET run_attempts = 0
WHERE last_audit_id = $1 AND run_attempts > 0;

-- name: end_crawl
-- Close the crawl of run $1 with verdict $2. No row if an image that the run attempted is neither
-- stored nor given up: the crawl stays open.
UPDATE draenei_content.crawls
SET verdict = $2, ended_at = clock_timestamp()
WHERE audit_id = $1
    AND NOT EXISTS (
        SELECT FROM draenei_content.transfers WHERE last_audit_id = $1 AND state <> 'dead'
    )
RETURNING audit_id;

-- name: take_reading
-- Try to become the only session that reads the crawl of run $1; the lock ends with the session.
SELECT pg_try_advisory_lock(hashtextextended('draenei_content.crawls', $1));

-- name: keep_reading
-- Keep the connection alive that holds the lock: it is otherwise idle for hours.
SELECT TRUE AS is_alive;

-- name: end_reading
-- Release the lock of the crawl of run $1.
SELECT pg_advisory_unlock(hashtextextended('draenei_content.crawls', $1));

-- name: join_watermark
-- The crawl of run $1 has read a whole list; search $2 is the same list, newest first. Set its
-- watermark to the items that the crawl last saw on its last pages: everything older is known.
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
-- The pages that run $1 read or could not read, in the order in which they came. Ids only if they
-- may still prove a border of two pages: if the page was read again, or before the page above it,
-- or if the page above it is missing or empty.
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
-- What the ledger says of the crawl of run $1; no row if the run is no crawl. A border is unproven
-- if the page above it was read and the page below it was not read again since. If two empty pages
-- follow the last page with items, the list ends before them, whatever last_page it announces.
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
