-- name: covered_pages
-- The pages that run $1 has staged, merged or not.
SELECT page AS number, items, invalid, known, last_page
FROM draenei_content.staged_pages
WHERE audit_id = $1
ORDER BY page;

-- name: is_contiguous
-- Is what is known of search $1 without a hole? No row: nothing is known.
SELECT contiguous FROM draenei_content.searches WHERE search_key = $1;

-- name: set_contiguous
-- Search $1 may have a hole from now on (false), or has none (true): $2.
INSERT INTO draenei_content.searches (search_key, contiguous)
VALUES ($1, $2)
ON CONFLICT (search_key) DO UPDATE SET contiguous = EXCLUDED.contiguous, updated_at = now();

-- name: note_page
-- Enter a page into the ledger of run $1: $2 page, $3 items, $4 last_page, $5 total, $6 ids of its
-- items. `known` counts the items that are rows already. No row: the page is in the ledger.
INSERT INTO draenei_content.staged_pages (
    audit_id, page, items, last_page, total, invalid, known
)
SELECT $1, $2, $3, $4, $5, $3 - cardinality($6::text[]), count(*)
FROM unnest($6::text[]) AS listed (wallhaven_id)
WHERE EXISTS (
    SELECT FROM draenei_content.wallpapers AS w WHERE w.wallhaven_id = listed.wallhaven_id
)
ON CONFLICT (audit_id, page) DO NOTHING
RETURNING page AS number, items, invalid, known, last_page;

-- name: covered_page
-- Page $2 of run $1.
SELECT page AS number, items, invalid, known, last_page
FROM draenei_content.staged_pages
WHERE audit_id = $1 AND page = $2;
