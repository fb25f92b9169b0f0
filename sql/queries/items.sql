-- name: collection
-- The $1 wallpapers that were stored last (NULL: all), as people see them.
SELECT *
FROM draenei_content.collection
ORDER BY stored_at DESC NULLS LAST, wallhaven_id
LIMIT $1::bigint;

-- name: item_row
-- The row of wallpaper $1, the state of its transfer, and the run that added it.
SELECT
    w.id, w.wallhaven_id, w.url, w.pending_url, w.page_url, w.category, w.purity, w.resolution,
    w.file_size, w.file_type, w.s3_key, w.object_sha256, w.object_bytes, w.stored_at,
    w.created_at, w.updated_at, a.run_id AS first_run_id,
    t.state AS transfer_state, t.attempts, t.next_attempt_at, t.lease_until,
    t.next_attempt_at > now() AS is_waiting, t.lease_until < now() AS has_lapsed
FROM draenei_content.wallpapers AS w
LEFT JOIN draenei_content.transfers AS t ON t.wallpaper_id = w.id
LEFT JOIN draenei_content.run_audit AS a ON a.id = w.first_audit_id
WHERE w.wallhaven_id = $1;

-- name: item_attempts
-- How the last attempt at wallpaper $1 ended in each run that made one.
SELECT a.run_id, i.outcome, i.edge, i.code, i.attempts, i.bytes, i.ended_at
FROM draenei_content.run_items AS i
INNER JOIN draenei_content.run_audit AS a ON a.id = i.audit_id
WHERE i.wallpaper_id = $1
ORDER BY i.ended_at, i.audit_id;

-- name: item_letters
-- The dead letters about item $1, open or closed.
SELECT
    id, stage, wallhaven_id, code, reason, attempts, first_failed_at, last_failed_at, run_id,
    resolved_at
FROM draenei_content.dead_letters
WHERE item = $1 OR wallhaven_id = $1
ORDER BY first_failed_at, id;

-- name: item_listings
-- The first and the last page that listed item $1, accepted or rejected.
WITH listings AS (
    SELECT a.run_id, p.search_key, p.page, p.fetched_at
    FROM draenei_content.staged_pages AS p
    INNER JOIN draenei_content.run_audit AS a ON a.id = p.audit_id
    WHERE p.ids @> ARRAY[$1::text] OR p.rejected_items @> ARRAY[$1::text]
)
SELECT * FROM (SELECT * FROM listings ORDER BY fetched_at LIMIT 1) AS first_one
UNION
SELECT * FROM (SELECT * FROM listings ORDER BY fetched_at DESC LIMIT 1) AS last_one
ORDER BY fetched_at;

-- name: item_details
-- Uploader and tags of wallpaper $1; no row if it was never queued for enrichment.
SELECT
    d.enriched_at, d.missing_at, u.username AS uploader,
    ARRAY(
        SELECT t.name
        FROM draenei_content.wallpaper_tags AS wt
        INNER JOIN draenei_content.tags AS t USING (tag_id)
        WHERE wt.wallpaper_id = d.wallpaper_id
        ORDER BY t.name
    ) AS tags
FROM draenei_content.wallpaper_details AS d
LEFT JOIN draenei_content.uploaders AS u ON u.id = d.uploader_id
WHERE d.wallpaper_id = $1;
