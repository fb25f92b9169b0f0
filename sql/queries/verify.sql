-- name: keyed_rows
-- The next $3 rows that name an object, after key $1 and row $2, in the order of a bucket's
-- listing.
SELECT
    id AS wallpaper_id, wallhaven_id, s3_key, object_sha256, object_bytes
FROM draenei_content.wallpapers
WHERE (s3_key COLLATE "C", id) > ($1, $2) AND s3_key IS NOT NULL
ORDER BY s3_key COLLATE "C", id
LIMIT $3;

-- name: present_rows
-- The wallpapers $1 as they are now.
SELECT
    w.id AS wallpaper_id, w.wallhaven_id, w.url, w.file_type, w.file_size, w.s3_key,
    w.object_sha256, w.object_bytes,
    COALESCE(t.state = 'claimed' AND t.lease_until >= now(), FALSE) AS is_claimed
FROM draenei_content.wallpapers AS w
LEFT JOIN draenei_content.transfers AS t ON t.wallpaper_id = w.id
WHERE w.wallhaven_id = ANY($1::text[]);

-- name: quarantined
-- The quarantined objects among the keys $1.
SELECT s3_key, etag, size_bytes, reason
FROM draenei_content.quarantined_objects
WHERE s3_key = ANY($1::text[]);

-- name: quarantine
-- Quarantine the object under key $1, with etag $2 and $3 bytes: $4 says why.
INSERT INTO draenei_content.quarantined_objects (s3_key, etag, size_bytes, reason)
VALUES ($1, $2, $3, $4)
ON CONFLICT (s3_key) DO UPDATE SET
    etag = EXCLUDED.etag,
    size_bytes = EXCLUDED.size_bytes,
    reason = EXCLUDED.reason,
    found_at = now();

-- name: unstore
-- Wallpaper $1 is not stored under key $2, with sha256 $3, after all: make it due for another
-- download. If a later listing gave another URL, it is downloaded from there; then type and size
-- are unknown.
WITH unstored AS (
    UPDATE draenei_content.wallpapers
    SET
        s3_key = NULL, object_sha256 = NULL, object_bytes = NULL, stored_at = NULL,
        url = COALESCE(pending_url, url),
        file_type = CASE WHEN pending_url IS NULL THEN file_type END,
        file_size = CASE WHEN pending_url IS NULL THEN file_size END,
        pending_url = NULL
    WHERE id = $1 AND s3_key = $2 AND object_sha256 IS NOT DISTINCT FROM $3
    RETURNING id
),
enlisted AS (
    INSERT INTO draenei_content.transfers (wallpaper_id)
    SELECT id FROM unstored
    ON CONFLICT DO NOTHING
)
SELECT id FROM unstored;

-- name: adopt
-- The object under key $2, with sha256 $3 and $4 bytes, is the image of wallpaper $1. Nothing
-- happens if the wallpaper is stored already or has a live claim.
WITH free AS (
    DELETE FROM draenei_content.transfers
    WHERE wallpaper_id = $1 AND (state <> 'claimed' OR lease_until < now())
    RETURNING wallpaper_id
),
stored AS (
    UPDATE draenei_content.wallpapers AS w
    SET s3_key = $2, object_sha256 = $3, object_bytes = $4, stored_at = clock_timestamp()
    FROM free
    WHERE w.id = free.wallpaper_id AND w.s3_key IS NULL
    RETURNING w.id, w.wallhaven_id
),
released AS (
    DELETE FROM draenei_content.quarantined_objects AS q
    USING stored
    WHERE q.s3_key = $2
),
resolved AS (
    UPDATE draenei_content.dead_letters AS d
    SET resolved_at = clock_timestamp()
    FROM stored
    WHERE d.stage = 'transfer' AND d.item = stored.wallhaven_id AND d.resolved_at IS NULL
)
SELECT id FROM stored;

-- name: retry_dead
-- Make wallpaper $1 due at once, unless it has a live claim. If it was given up, it gets all its
-- attempts again and its dead letter is closed; otherwise its attempts stay counted.
WITH due AS (
    UPDATE draenei_content.transfers SET
        state = 'pending',
        owner = NULL,
        lease_until = NULL,
        next_attempt_at = now(),
        attempts = CASE WHEN state = 'dead' THEN 0 ELSE attempts END,
        run_attempts = CASE WHEN state = 'dead' THEN 0 ELSE run_attempts END,
        last_audit_id = CASE WHEN state = 'dead' THEN NULL ELSE last_audit_id END
    WHERE wallpaper_id = $1 AND (state <> 'claimed' OR lease_until < now())
    RETURNING wallpaper_id
),
resolved AS (
    UPDATE draenei_content.dead_letters AS d
    SET resolved_at = clock_timestamp()
    FROM due
    INNER JOIN draenei_content.wallpapers AS w ON w.id = due.wallpaper_id
    WHERE d.stage = 'transfer' AND d.item = w.wallhaven_id AND d.resolved_at IS NULL
)
SELECT wallpaper_id FROM due;
