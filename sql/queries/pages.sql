-- name: covered_pages
-- The pages that run $1 has staged, merged or not.
SELECT page AS number, search_key, items, invalid, known, ids, last_page, total
FROM draenei_content.staged_pages
WHERE audit_id = $1
ORDER BY page;

-- name: watermark
-- The ids on the first page of search $1 when it was last read and merged without a hole.
SELECT newest_ids FROM draenei_content.searches WHERE search_key = $1;

-- name: note_reading
-- Run $1 has read search $2 without a hole; its first page had the ids $3. Once its pages are
-- merged, that is the watermark.
INSERT INTO draenei_content.searches (read_audit_id, search_key, read_ids)
VALUES ($1, $2, $3)
ON CONFLICT (search_key) DO UPDATE SET
    read_ids = EXCLUDED.read_ids,
    read_audit_id = EXCLUDED.read_audit_id,
    updated_at = now();

-- name: note_page
-- Enter a page of search $7 into the ledger of run $1: $2 page, $3 items, $4 last_page, $5 total,
-- $6 ids of its items. `known` counts the items that are rows already. No row: the page is in the
-- ledger.
INSERT INTO draenei_content.staged_pages (
    audit_id, page, items, last_page, total, ids, invalid, search_key, known
)
SELECT $1, $2, $3, $4, $5, $6::text[], $3 - cardinality($6::text[]), $7, count(*)
FROM unnest($6::text[]) AS listed (wallhaven_id)
WHERE EXISTS (
    SELECT FROM draenei_content.wallpapers AS w WHERE w.wallhaven_id = listed.wallhaven_id
)
ON CONFLICT (audit_id, page) DO NOTHING
RETURNING page AS number, search_key, items, invalid, known, ids, last_page, total;

-- name: covered_page
-- Page $2 of run $1.
SELECT page AS number, search_key, items, invalid, known, ids, last_page, total
FROM draenei_content.staged_pages
WHERE audit_id = $1 AND page = $2;
