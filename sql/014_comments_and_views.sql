-- Tables that explain themselves: a comment on every table and column, and four views for people.
-- Idempotent, and records itself.

-- step: attempts are called attempts
DO $$
DECLARE
    renamed TEXT;
BEGIN
    FOR renamed IN
        SELECT table_name
        FROM information_schema.columns
        WHERE
            table_schema = 'draenei_content'
            AND table_name IN ('run_stages', 'run_items')
            AND column_name = 'tries'
    LOOP
        EXECUTE format(
            'ALTER TABLE draenei_content.%I RENAME COLUMN tries TO attempts', renamed
        );
    END LOOP;
END
$$;

-- step: views for people

CREATE OR REPLACE VIEW draenei_content.runs AS
SELECT
    a.run_id,
    a.dag_id,
    a.status,
    a.started_at,
    a.duration_seconds,
    (
        SELECT min(p.search_key)
        FROM draenei_content.staged_pages AS p
        WHERE p.audit_id = a.id
    ) AS search,
    a.metadata_inserted,
    a.metadata_updated,
    a.images_uploaded,
    a.images_adopted,
    a.bytes_uploaded,
    a.download_failures + a.upload_failures AS failures,
    a.missing_s3_after_run,
    a.api_requests,
    a.notes
FROM draenei_content.run_audit AS a;

COMMENT ON VIEW draenei_content.runs IS
'Each run in one line; the newest has the latest started_at.';
COMMENT ON COLUMN draenei_content.runs.run_id IS
'name of the run';
COMMENT ON COLUMN draenei_content.runs.dag_id IS
'who ran it';
COMMENT ON COLUMN draenei_content.runs.status IS
'running, succeeded, partial, failed, interrupted or crashed';
COMMENT ON COLUMN draenei_content.runs.started_at IS
'when it began';
COMMENT ON COLUMN draenei_content.runs.duration_seconds IS
'seconds until its audit';
COMMENT ON COLUMN draenei_content.runs.search IS
'the search it read; NULL if it read no page, or if its details were trimmed';
COMMENT ON COLUMN draenei_content.runs.metadata_inserted IS
'new wallpapers';
COMMENT ON COLUMN draenei_content.runs.metadata_updated IS
'changed wallpapers';
COMMENT ON COLUMN draenei_content.runs.images_uploaded IS
'images stored';
COMMENT ON COLUMN draenei_content.runs.images_adopted IS
'images that were found in the bucket already';
COMMENT ON COLUMN draenei_content.runs.bytes_uploaded IS
'bytes stored';
COMMENT ON COLUMN draenei_content.runs.failures IS
'images whose last attempt in the run failed';
COMMENT ON COLUMN draenei_content.runs.missing_s3_after_run IS
'wallpapers of any search without an object when it ended';
COMMENT ON COLUMN draenei_content.runs.api_requests IS
'requests to the API';
COMMENT ON COLUMN draenei_content.runs.notes IS
'what a person should know';

CREATE OR REPLACE VIEW draenei_content.backlog AS
SELECT
    w.wallhaven_id,
    CASE
        WHEN t.state = 'pending' AND t.next_attempt_at > now() THEN 'waiting'
        ELSE t.state
    END AS state,
    t.attempts,
    t.next_attempt_at,
    t.lease_until,
    d.code,
    w.file_size,
    w.page_url,
    w.url
FROM draenei_content.transfers AS t
INNER JOIN draenei_content.wallpapers AS w ON w.id = t.wallpaper_id
LEFT JOIN draenei_content.dead_letters AS d
    ON
        d.stage = 'transfer'
        AND d.item = w.wallhaven_id
        AND d.resolved_at IS NULL;

COMMENT ON VIEW draenei_content.backlog IS
'Wallpapers whose image is not stored, and when each is attempted next.';
COMMENT ON COLUMN draenei_content.backlog.wallhaven_id IS
'the site''s id';
COMMENT ON COLUMN draenei_content.backlog.state IS
'pending: due; waiting: due later; claimed: a worker has it; dead: given up';
COMMENT ON COLUMN draenei_content.backlog.attempts IS
'attempts so far';
COMMENT ON COLUMN draenei_content.backlog.next_attempt_at IS
'the next attempt is made no earlier than this';
COMMENT ON COLUMN draenei_content.backlog.lease_until IS
'a claim expires then';
COMMENT ON COLUMN draenei_content.backlog.code IS
'why it was given up; NULL unless dead';
COMMENT ON COLUMN draenei_content.backlog.file_size IS
'bytes of the image, as listed';
COMMENT ON COLUMN draenei_content.backlog.page_url IS
'address of the wallpaper''s page';
COMMENT ON COLUMN draenei_content.backlog.url IS
'address of the image';

CREATE OR REPLACE VIEW draenei_content.failures AS
SELECT
    d.id,
    d.stage,
    d.wallhaven_id,
    d.code,
    d.reason,
    d.attempts,
    d.first_failed_at,
    d.last_failed_at,
    d.run_id,
    w.page_url
FROM draenei_content.dead_letters AS d
LEFT JOIN draenei_content.wallpapers AS w ON w.wallhaven_id = d.wallhaven_id
WHERE d.resolved_at IS NULL;

COMMENT ON VIEW draenei_content.failures IS
'Open dead letters: what was given up on, and why.';
COMMENT ON COLUMN draenei_content.failures.id IS
'number of the dead letter, for dead requeue and dead resolve';
COMMENT ON COLUMN draenei_content.failures.stage IS
'load or transfer';
COMMENT ON COLUMN draenei_content.failures.wallhaven_id IS
'the site''s id; NULL if the item had none';
COMMENT ON COLUMN draenei_content.failures.code IS
'why, as a code';
COMMENT ON COLUMN draenei_content.failures.reason IS
'why, in words';
COMMENT ON COLUMN draenei_content.failures.attempts IS
'failed attempts';
COMMENT ON COLUMN draenei_content.failures.first_failed_at IS
'when it failed first';
COMMENT ON COLUMN draenei_content.failures.last_failed_at IS
'when it failed last';
COMMENT ON COLUMN draenei_content.failures.run_id IS
'run that gave it up';
COMMENT ON COLUMN draenei_content.failures.page_url IS
'address of the wallpaper''s page';

CREATE OR REPLACE VIEW draenei_content.collection AS
SELECT
    w.wallhaven_id,
    w.s3_key,
    w.resolution,
    w.category,
    w.purity,
    w.file_type,
    w.object_bytes,
    w.object_sha256,
    w.stored_at,
    w.source_created_at,
    w.colors,
    c.favorites,
    c.views,
    u.username AS uploader,
    (
        SELECT array_agg(t.name ORDER BY t.name)
        FROM draenei_content.wallpaper_tags AS wt
        INNER JOIN draenei_content.tags AS t USING (tag_id)
        WHERE wt.wallpaper_id = w.id
    ) AS tags,
    w.page_url,
    w.source
FROM draenei_content.wallpapers AS w
LEFT JOIN draenei_content.wallpaper_counters AS c ON c.wallpaper_id = w.id
LEFT JOIN draenei_content.wallpaper_details AS d ON d.wallpaper_id = w.id
LEFT JOIN draenei_content.uploaders AS u ON u.id = d.uploader_id
WHERE w.s3_key IS NOT NULL;

COMMENT ON VIEW draenei_content.collection IS
'Stored wallpapers with what is known about them, for people who look for images.';
COMMENT ON COLUMN draenei_content.collection.wallhaven_id IS
'the site''s id';
COMMENT ON COLUMN draenei_content.collection.s3_key IS
'key of the object in the bucket';
COMMENT ON COLUMN draenei_content.collection.resolution IS
'width x height in pixels';
COMMENT ON COLUMN draenei_content.collection.category IS
'general, anime or people';
COMMENT ON COLUMN draenei_content.collection.purity IS
'sfw, sketchy or nsfw';
COMMENT ON COLUMN draenei_content.collection.file_type IS
'media type';
COMMENT ON COLUMN draenei_content.collection.object_bytes IS
'size in bytes; NULL for objects of the synchronous original';
COMMENT ON COLUMN draenei_content.collection.object_sha256 IS
'SHA-256 in hex; NULL for objects of the synchronous original';
COMMENT ON COLUMN draenei_content.collection.stored_at IS
'when it was stored; NULL for objects of the synchronous original';
COMMENT ON COLUMN draenei_content.collection.source_created_at IS
'when it was uploaded to the site';
COMMENT ON COLUMN draenei_content.collection.colors IS
'main colours as #rrggbb';
COMMENT ON COLUMN draenei_content.collection.favorites IS
'favourites, as last listed';
COMMENT ON COLUMN draenei_content.collection.views IS
'views, as last listed';
COMMENT ON COLUMN draenei_content.collection.uploader IS
'who uploaded it; NULL until enrich has asked';
COMMENT ON COLUMN draenei_content.collection.tags IS
'names of its tags; NULL until enrich has asked, or if it has none';
COMMENT ON COLUMN draenei_content.collection.page_url IS
'address of its page on the site';
COMMENT ON COLUMN draenei_content.collection.source IS
'where the uploader found it';

-- step: what wallpapers holds
COMMENT ON TABLE draenei_content.wallpapers IS
'One row for each wallpaper that a search has listed. s3_key IS NULL means: the image is not stored yet.';
COMMENT ON COLUMN draenei_content.wallpapers.id IS
'key of the row; other tables call it wallpaper_id';
COMMENT ON COLUMN draenei_content.wallpapers.wallhaven_id IS
'the site''s own id, unique';
COMMENT ON COLUMN draenei_content.wallpapers.url IS
'address of the image; once the image is stored, the address it was fetched from';
COMMENT ON COLUMN draenei_content.wallpapers.resolution IS
'width x height in pixels, as the site writes it';
COMMENT ON COLUMN draenei_content.wallpapers.category IS
'general, anime or people';
COMMENT ON COLUMN draenei_content.wallpapers.purity IS
'sfw, sketchy or nsfw';
COMMENT ON COLUMN draenei_content.wallpapers.file_size IS
'bytes of the image, as the site lists it';
COMMENT ON COLUMN draenei_content.wallpapers.s3_key IS
'key of the object in the bucket; NULL until the image is stored';
COMMENT ON COLUMN draenei_content.wallpapers.created_at IS
'when the row was made';
COMMENT ON COLUMN draenei_content.wallpapers.updated_at IS
'when a listing last changed the row; NULL if none has';
COMMENT ON COLUMN draenei_content.wallpapers.page_url IS
'address of the wallpaper''s page on the site';
COMMENT ON COLUMN draenei_content.wallpapers.short_url IS
'short address of that page';
COMMENT ON COLUMN draenei_content.wallpapers.source IS
'where the uploader found the image, as the uploader wrote it';
COMMENT ON COLUMN draenei_content.wallpapers.dimension_x IS
'width in pixels';
COMMENT ON COLUMN draenei_content.wallpapers.dimension_y IS
'height in pixels';
COMMENT ON COLUMN draenei_content.wallpapers.ratio IS
'width divided by height, as the site rounds it';
COMMENT ON COLUMN draenei_content.wallpapers.file_type IS
'media type of the image: image/jpeg, image/png or image/webp';
COMMENT ON COLUMN draenei_content.wallpapers.source_created_at IS
'when the wallpaper was uploaded to the site';
COMMENT ON COLUMN draenei_content.wallpapers.colors IS
'main colours as #rrggbb, the most frequent first';
COMMENT ON COLUMN draenei_content.wallpapers.thumb_large IS
'address of the large thumbnail';
COMMENT ON COLUMN draenei_content.wallpapers.thumb_original IS
'address of the thumbnail in the image''s own ratio';
COMMENT ON COLUMN draenei_content.wallpapers.thumb_small IS
'address of the small thumbnail';
COMMENT ON COLUMN draenei_content.wallpapers.raw IS
'fields of the listing that have no column';
COMMENT ON COLUMN draenei_content.wallpapers.object_sha256 IS
'SHA-256 of the stored bytes, in hex';
COMMENT ON COLUMN draenei_content.wallpapers.object_bytes IS
'size of the stored object in bytes';
COMMENT ON COLUMN draenei_content.wallpapers.stored_at IS
'when the object was confirmed';
COMMENT ON COLUMN draenei_content.wallpapers.pending_url IS
'address that the site lists now, if it differs from the one the stored image came from';
COMMENT ON COLUMN draenei_content.wallpapers.first_audit_id IS
'run whose load made the row; NULL if the row is older than this column';
COMMENT ON COLUMN draenei_content.wallpapers.listed_digest IS
'digest of the listing that the columns hold; NULL if it is not known';
COMMENT ON COLUMN draenei_content.wallpapers.listed_at IS
'when that listing was read; an older listing does not replace it';

-- step: what wallpaper_counters holds
COMMENT ON TABLE draenei_content.wallpaper_counters IS
'Views and favourites of each wallpaper. They change daily, so they are kept apart from wallpapers.';
COMMENT ON COLUMN draenei_content.wallpaper_counters.wallpaper_id IS
'row of wallpapers';
COMMENT ON COLUMN draenei_content.wallpaper_counters.views IS
'views that the site counted';
COMMENT ON COLUMN draenei_content.wallpaper_counters.favorites IS
'users that have the wallpaper among their favourites';
COMMENT ON COLUMN draenei_content.wallpaper_counters.seen_at IS
'when these counts were read';

-- step: what transfers holds
COMMENT ON TABLE draenei_content.transfers IS
'The backlog: one row for each wallpaper whose image is not stored. The row is deleted when the object is confirmed.';
COMMENT ON COLUMN draenei_content.transfers.wallpaper_id IS
'row of wallpapers';
COMMENT ON COLUMN draenei_content.transfers.state IS
'pending: due at next_attempt_at; claimed: a worker has it; dead: given up, see dead_letters';
COMMENT ON COLUMN draenei_content.transfers.next_attempt_at IS
'the next attempt is made no earlier than this';
COMMENT ON COLUMN draenei_content.transfers.attempts IS
'attempts so far; counted when the image is claimed, refunded after an outage';
COMMENT ON COLUMN draenei_content.transfers.fence IS
'number of claims so far; a commit must present the current one';
COMMENT ON COLUMN draenei_content.transfers.owner IS
'worker that has claimed the image; NULL unless claimed';
COMMENT ON COLUMN draenei_content.transfers.lease_until IS
'the claim expires then, unless its owner renews it; NULL unless claimed';
COMMENT ON COLUMN draenei_content.transfers.last_audit_id IS
'run that attempted the image last';
COMMENT ON COLUMN draenei_content.transfers.run_attempts IS
'attempts of that run';
COMMENT ON COLUMN draenei_content.transfers.upload_id IS
'multipart upload that was begun for the image and may still be open';
COMMENT ON COLUMN draenei_content.transfers.listed_audit_id IS
'run whose pages listed the wallpaper last';

-- step: what dead_letters holds
COMMENT ON TABLE draenei_content.dead_letters IS
'What was given up on. Open means resolved_at IS NULL; each item has at most one open row for each stage.';
COMMENT ON COLUMN draenei_content.dead_letters.id IS
'number of the dead letter';
COMMENT ON COLUMN draenei_content.dead_letters.stage IS
'load: the listing could not become a row; transfer: the image could not be stored';
COMMENT ON COLUMN draenei_content.dead_letters.item IS
'the site''s id, or a digest of what was received if it had none';
COMMENT ON COLUMN draenei_content.dead_letters.wallhaven_id IS
'the site''s id; NULL if the item had none';
COMMENT ON COLUMN draenei_content.dead_letters.code IS
'why it was given up, as a code';
COMMENT ON COLUMN draenei_content.dead_letters.reason IS
'the same in words, with the values that were found';
COMMENT ON COLUMN draenei_content.dead_letters.raw IS
'the listing as it was received, for stage load';
COMMENT ON COLUMN draenei_content.dead_letters.attempts IS
'failed attempts';
COMMENT ON COLUMN draenei_content.dead_letters.first_failed_at IS
'when it failed first';
COMMENT ON COLUMN draenei_content.dead_letters.last_failed_at IS
'when it failed last';
COMMENT ON COLUMN draenei_content.dead_letters.audit_id IS
'run that gave it up; NULL if the run''s row was deleted';
COMMENT ON COLUMN draenei_content.dead_letters.run_id IS
'name of that run';
COMMENT ON COLUMN draenei_content.dead_letters.resolved_at IS
'when it succeeded after all, or was requeued or resolved; NULL while it is open';

-- step: what run_audit holds
COMMENT ON TABLE draenei_content.run_audit IS
'One row for each run. The counters are a recount of the tables when the run ended.';
COMMENT ON COLUMN draenei_content.run_audit.id IS
'key of the run; other tables call it audit_id';
COMMENT ON COLUMN draenei_content.run_audit.dag_id IS
'who runs it: the DAG, or collector';
COMMENT ON COLUMN draenei_content.run_audit.run_id IS
'name of the run, unique within its dag_id';
COMMENT ON COLUMN draenei_content.run_audit.logical_date IS
'date that the scheduler gave the run';
COMMENT ON COLUMN draenei_content.run_audit.started_at IS
'when the run began';
COMMENT ON COLUMN draenei_content.run_audit.ended_at IS
'when the audit was written; NULL while the run is running';
COMMENT ON COLUMN draenei_content.run_audit.duration_seconds IS
'seconds from started_at to ended_at';
COMMENT ON COLUMN draenei_content.run_audit.metadata_inserted IS
'wallpapers that the run listed and that had no row before';
COMMENT ON COLUMN draenei_content.run_audit.metadata_updated IS
'wallpapers whose row changed';
COMMENT ON COLUMN draenei_content.run_audit.images_uploaded IS
'images that the run stored';
COMMENT ON COLUMN draenei_content.run_audit.download_failures IS
'images whose last attempt in the run failed at the image host';
COMMENT ON COLUMN draenei_content.run_audit.upload_failures IS
'images whose last attempt in the run failed at the store';
COMMENT ON COLUMN draenei_content.run_audit.missing_s3_after_run IS
'wallpapers of any search without an object when the run ended';
COMMENT ON COLUMN draenei_content.run_audit.notes IS
'what a person should know: problems, and what is left to do';
COMMENT ON COLUMN draenei_content.run_audit.created_at IS
'when this row was made';
COMMENT ON COLUMN draenei_content.run_audit.updated_at IS
'when this row was changed last';
COMMENT ON COLUMN draenei_content.run_audit.metadata_unchanged IS
'wallpapers listed as before; views and favourites do not count';
COMMENT ON COLUMN draenei_content.run_audit.metadata_invalid IS
'listed items that could not become rows';
COMMENT ON COLUMN draenei_content.run_audit.images_adopted IS
'images that were found in the bucket already, with the right bytes';
COMMENT ON COLUMN draenei_content.run_audit.bytes_uploaded IS
'bytes of images_uploaded';
COMMENT ON COLUMN draenei_content.run_audit.api_requests IS
'requests to the API';
COMMENT ON COLUMN draenei_content.run_audit.status IS
'running, succeeded, partial, failed, interrupted or crashed';
COMMENT ON COLUMN draenei_content.run_audit.report IS
'everything else that the run reports, as JSON';
COMMENT ON COLUMN draenei_content.run_audit.heartbeat_at IS
'when the run''s process was last known to live';
COMMENT ON COLUMN draenei_content.run_audit.audited_at IS
'when the audit was written; NULL if a stage has begun or ended since';
COMMENT ON COLUMN draenei_content.run_audit.trimmed_at IS
'when the run''s details were trimmed; its counters are final since then';

-- step: what run_stages holds
COMMENT ON TABLE draenei_content.run_stages IS
'How the last call of each stage ended, for each worker of a run.';
COMMENT ON COLUMN draenei_content.run_stages.audit_id IS
'run';
COMMENT ON COLUMN draenei_content.run_stages.stage IS
'extract, load, transfer, audit or enrich';
COMMENT ON COLUMN draenei_content.run_stages.status IS
'running, succeeded, failed or interrupted';
COMMENT ON COLUMN draenei_content.run_stages.attempts IS
'how often the stage was called';
COMMENT ON COLUMN draenei_content.run_stages.api_requests IS
'requests to the API';
COMMENT ON COLUMN draenei_content.run_stages.started_at IS
'when the stage was called first';
COMMENT ON COLUMN draenei_content.run_stages.ended_at IS
'when its last call ended; NULL while it is running';
COMMENT ON COLUMN draenei_content.run_stages.report IS
'counts of the stage, as JSON';
COMMENT ON COLUMN draenei_content.run_stages.problem IS
'why it failed';
COMMENT ON COLUMN draenei_content.run_stages.worker IS
'number of the worker; 0 is the first';

-- step: what run_loads holds
COMMENT ON TABLE draenei_content.run_loads IS
'One row for each merge of staged pages.';
COMMENT ON COLUMN draenei_content.run_loads.id IS
'number of the merge';
COMMENT ON COLUMN draenei_content.run_loads.audit_id IS
'run that merged';
COMMENT ON COLUMN draenei_content.run_loads.merged_at IS
'when it was committed';
COMMENT ON COLUMN draenei_content.run_loads.pages IS
'pages merged';
COMMENT ON COLUMN draenei_content.run_loads.inserted IS
'rows of wallpapers inserted';
COMMENT ON COLUMN draenei_content.run_loads.updated IS
'rows updated, for merges from before updated_items';
COMMENT ON COLUMN draenei_content.run_loads.updated_items IS
'site ids of rows that the merge changed and that its run had not made';

-- step: what run_items holds
COMMENT ON TABLE draenei_content.run_items IS
'How the last attempt of a run at each image ended. The audit counts these rows.';
COMMENT ON COLUMN draenei_content.run_items.audit_id IS
'run';
COMMENT ON COLUMN draenei_content.run_items.wallpaper_id IS
'row of wallpapers';
COMMENT ON COLUMN draenei_content.run_items.outcome IS
'uploaded, adopted or failed';
COMMENT ON COLUMN draenei_content.run_items.edge IS
'where it failed: download or upload; NULL unless failed';
COMMENT ON COLUMN draenei_content.run_items.code IS
'why it failed; NULL unless failed';
COMMENT ON COLUMN draenei_content.run_items.bytes IS
'bytes uploaded';
COMMENT ON COLUMN draenei_content.run_items.attempts IS
'attempts of this run';
COMMENT ON COLUMN draenei_content.run_items.ended_at IS
'when the last attempt ended';
COMMENT ON COLUMN draenei_content.run_items.is_given_up IS
'whether that attempt made the image a dead letter';

-- step: what staged_pages holds
COMMENT ON TABLE draenei_content.staged_pages IS
'The ledger of pages: one row for each page that a run has read.';
COMMENT ON COLUMN draenei_content.staged_pages.audit_id IS
'run that read the page';
COMMENT ON COLUMN draenei_content.staged_pages.page IS
'number of the page; the first is 1';
COMMENT ON COLUMN draenei_content.staged_pages.search_key IS
'the search, in its canonical form';
COMMENT ON COLUMN draenei_content.staged_pages.ids IS
'site ids on the page, in its order';
COMMENT ON COLUMN draenei_content.staged_pages.items IS
'items on the page';
COMMENT ON COLUMN draenei_content.staged_pages.invalid IS
'items that could not become rows';
COMMENT ON COLUMN draenei_content.staged_pages.known IS
'items listed before with the same content';
COMMENT ON COLUMN draenei_content.staged_pages.last_page IS
'last page of the list, as this page says';
COMMENT ON COLUMN draenei_content.staged_pages.total IS
'items of the list, as this page says';
COMMENT ON COLUMN draenei_content.staged_pages.fetched_at IS
'when the page was read';
COMMENT ON COLUMN draenei_content.staged_pages.load_id IS
'merge that took the page; NULL until it is merged';
COMMENT ON COLUMN draenei_content.staged_pages.reading IS
'how often the run had read this page, this time included';
COMMENT ON COLUMN draenei_content.staged_pages.rejected_items IS
'items without a row, named as in dead_letters.item';
COMMENT ON COLUMN draenei_content.staged_pages.per_page IS
'items of a full page; NULL if not known';
COMMENT ON COLUMN draenei_content.staged_pages.staged IS
'items that were staged; items listed as before are not';

-- step: what unreadable_pages holds
COMMENT ON TABLE draenei_content.unreadable_pages IS
'Pages that a run could not read while other pages were readable: one row for each failure.';
COMMENT ON COLUMN draenei_content.unreadable_pages.audit_id IS
'run';
COMMENT ON COLUMN draenei_content.unreadable_pages.page IS
'number of the page';
COMMENT ON COLUMN draenei_content.unreadable_pages.failed_at IS
'when it failed';
COMMENT ON COLUMN draenei_content.unreadable_pages.search_key IS
'the search, in its canonical form';
COMMENT ON COLUMN draenei_content.unreadable_pages.last_page IS
'last page of the list, as another page said right after the failure';
COMMENT ON COLUMN draenei_content.unreadable_pages.total IS
'items of the list, as that page said';
COMMENT ON COLUMN draenei_content.unreadable_pages.problem IS
'why it could not be read';

-- step: what staged_wallpapers holds
COMMENT ON TABLE draenei_content.staged_wallpapers IS
'New and changed items between extract and load, rejects included. Emptied by each merge.';
COMMENT ON COLUMN draenei_content.staged_wallpapers.audit_id IS
'run that read the page';
COMMENT ON COLUMN draenei_content.staged_wallpapers.page IS
'number of the page';
COMMENT ON COLUMN draenei_content.staged_wallpapers.position IS
'place on the page; the first is 0';
COMMENT ON COLUMN draenei_content.staged_wallpapers.code IS
'why the item is rejected; NULL if it is not';
COMMENT ON COLUMN draenei_content.staged_wallpapers.reason IS
'the same in words';
COMMENT ON COLUMN draenei_content.staged_wallpapers.rejected IS
'the rejected item as it was received';
COMMENT ON COLUMN draenei_content.staged_wallpapers.wallhaven_id IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.url IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.page_url IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.short_url IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.source IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.category IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.purity IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.dimension_x IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.dimension_y IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.resolution IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.ratio IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.file_size IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.file_type IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.source_created_at IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.colors IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.thumb_large IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.thumb_original IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.thumb_small IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.raw IS
'as in wallpapers';
COMMENT ON COLUMN draenei_content.staged_wallpapers.views IS
'as in wallpaper_counters';
COMMENT ON COLUMN draenei_content.staged_wallpapers.favorites IS
'as in wallpaper_counters';
COMMENT ON COLUMN draenei_content.staged_wallpapers.reading IS
'as in staged_pages';
COMMENT ON COLUMN draenei_content.staged_wallpapers.listed_digest IS
'digest of the listing';

-- step: what searches holds
COMMENT ON TABLE draenei_content.searches IS
'The watermark of each search: a reading may stop where it meets one of these ids.';
COMMENT ON COLUMN draenei_content.searches.search_key IS
'the search, in its canonical form';
COMMENT ON COLUMN draenei_content.searches.newest_ids IS
'ids on the first page of the last gapless reading that is merged';
COMMENT ON COLUMN draenei_content.searches.read_ids IS
'ids on the first page of the last gapless reading, merged or not';
COMMENT ON COLUMN draenei_content.searches.read_audit_id IS
'run of that reading';
COMMENT ON COLUMN draenei_content.searches.updated_at IS
'when the row was changed last';
COMMENT ON COLUMN draenei_content.searches.newest_audit_id IS
'run whose reading gave newest_ids';

-- step: what search_totals holds
COMMENT ON TABLE draenei_content.search_totals IS
'How many wallpapers a search without filters had, asked at most once a day.';
COMMENT ON COLUMN draenei_content.search_totals.search_key IS
'the search, in its canonical form';
COMMENT ON COLUMN draenei_content.search_totals.total IS
'its wallpapers';
COMMENT ON COLUMN draenei_content.search_totals.asked_at IS
'when it was asked';

-- step: what crawls holds
COMMENT ON TABLE draenei_content.crawls IS
'One row for each backfill. It is open until it has its verdict; the same command resumes it until then.';
COMMENT ON COLUMN draenei_content.crawls.audit_id IS
'run that reads the list';
COMMENT ON COLUMN draenei_content.crawls.search_key IS
'the search, in its canonical form';
COMMENT ON COLUMN draenei_content.crawls.from_page IS
'first page';
COMMENT ON COLUMN draenei_content.crawls.to_page IS
'last page; NULL: to the end of the list';
COMMENT ON COLUMN draenei_content.crawls.is_oldest_first IS
'new items join the end of the list, so the order of reading proves it complete';
COMMENT ON COLUMN draenei_content.crawls.verdict IS
'complete, explained or incomplete; NULL while it is open';
COMMENT ON COLUMN draenei_content.crawls.begun_at IS
'when it began';
COMMENT ON COLUMN draenei_content.crawls.ended_at IS
'when it had its verdict';

-- step: what run_limits holds
COMMENT ON TABLE draenei_content.run_limits IS
'The most of a run''s UPLOAD_BATCH_LIMIT that may be used by now, shared by its workers.';
COMMENT ON COLUMN draenei_content.run_limits.audit_id IS
'run';
COMMENT ON COLUMN draenei_content.run_limits.used IS
'images stored or claimed; NULL until it is counted again';

-- step: what tags holds
COMMENT ON TABLE draenei_content.tags IS
'One row for each tag.';
COMMENT ON COLUMN draenei_content.tags.tag_id IS
'the site''s number of the tag';
COMMENT ON COLUMN draenei_content.tags.name IS
'its name';
COMMENT ON COLUMN draenei_content.tags.alias IS
'other names, as the site lists them';
COMMENT ON COLUMN draenei_content.tags.category_id IS
'the site''s number of its category';
COMMENT ON COLUMN draenei_content.tags.category IS
'name of its category';
COMMENT ON COLUMN draenei_content.tags.purity IS
'sfw, sketchy or nsfw';
COMMENT ON COLUMN draenei_content.tags.source_created_at IS
'when the site made the tag';
COMMENT ON COLUMN draenei_content.tags.raw IS
'fields that have no column';
COMMENT ON COLUMN draenei_content.tags.created_at IS
'when the row was made';
COMMENT ON COLUMN draenei_content.tags.updated_at IS
'when the row was changed last; NULL if it never was';

-- step: what uploaders holds
COMMENT ON TABLE draenei_content.uploaders IS
'One row for each user who has uploaded a wallpaper.';
COMMENT ON COLUMN draenei_content.uploaders.id IS
'key of the row';
COMMENT ON COLUMN draenei_content.uploaders.username IS
'name at the site, unique';
COMMENT ON COLUMN draenei_content.uploaders.group_name IS
'the site''s group of the user';
COMMENT ON COLUMN draenei_content.uploaders.avatars IS
'addresses of avatars by size';
COMMENT ON COLUMN draenei_content.uploaders.raw IS
'fields that have no column';
COMMENT ON COLUMN draenei_content.uploaders.created_at IS
'when the row was made';
COMMENT ON COLUMN draenei_content.uploaders.updated_at IS
'when the row was changed last; NULL if it never was';

-- step: what wallpaper_tags holds
COMMENT ON TABLE draenei_content.wallpaper_tags IS
'Which wallpaper has which tag.';
COMMENT ON COLUMN draenei_content.wallpaper_tags.wallpaper_id IS
'row of wallpapers';
COMMENT ON COLUMN draenei_content.wallpaper_tags.tag_id IS
'row of tags';

-- step: what wallpaper_details holds
COMMENT ON TABLE draenei_content.wallpaper_details IS
'Uploader of each wallpaper, and the queue of enrich: when its details are requested next.';
COMMENT ON COLUMN draenei_content.wallpaper_details.wallpaper_id IS
'row of wallpapers';
COMMENT ON COLUMN draenei_content.wallpaper_details.uploader_id IS
'row of uploaders; NULL if not known';
COMMENT ON COLUMN draenei_content.wallpaper_details.enriched_at IS
'when the details were last received';
COMMENT ON COLUMN draenei_content.wallpaper_details.missing_at IS
'when the site last said that there is no such wallpaper, or that guests may not see it';
COMMENT ON COLUMN draenei_content.wallpaper_details.favorites IS
'order of the queue';
COMMENT ON COLUMN draenei_content.wallpaper_details.next_attempt_at IS
'the next request is made no earlier than this';
COMMENT ON COLUMN draenei_content.wallpaper_details.attempts IS
'requests since the last answer';
COMMENT ON COLUMN draenei_content.wallpaper_details.owner IS
'process that has claimed the wallpaper';
COMMENT ON COLUMN draenei_content.wallpaper_details.lease_until IS
'the claim expires then';

-- step: what run_enrichments holds
COMMENT ON TABLE draenei_content.run_enrichments IS
'The answer to each request for details in a run. The audit counts these rows.';
COMMENT ON COLUMN draenei_content.run_enrichments.audit_id IS
'run';
COMMENT ON COLUMN draenei_content.run_enrichments.wallpaper_id IS
'row of wallpapers';
COMMENT ON COLUMN draenei_content.run_enrichments.outcome IS
'enriched, missing or unusable';
COMMENT ON COLUMN draenei_content.run_enrichments.tags IS
'tags received';
COMMENT ON COLUMN draenei_content.run_enrichments.rejected_tags IS
'tags that could not become rows';
COMMENT ON COLUMN draenei_content.run_enrichments.asked_at IS
'when the answer was saved';

-- step: what api_budgets holds
COMMENT ON TABLE draenei_content.api_budgets IS
'One row for each API: what it said of its rate limit. All processes that use this database share it.';
COMMENT ON COLUMN draenei_content.api_budgets.scope IS
'host[:port] of the API';
COMMENT ON COLUMN draenei_content.api_budgets.announced_limit IS
'requests a minute that the API announced';
COMMENT ON COLUMN draenei_content.api_budgets.paused_until IS
'no request goes out before this';

-- step: what api_slots holds
COMMENT ON TABLE draenei_content.api_slots IS
'One row for each request that a window of the rate limit allows.';
COMMENT ON COLUMN draenei_content.api_slots.scope IS
'host[:port] of the API';
COMMENT ON COLUMN draenei_content.api_slots.slot IS
'number of the slot';
COMMENT ON COLUMN draenei_content.api_slots.free_at IS
'the slot is taken until then';
COMMENT ON COLUMN draenei_content.api_slots.taken_at IS
'when it was taken last';
COMMENT ON COLUMN draenei_content.api_slots.holder IS
'process that took it';

-- step: what api_waiters holds
COMMENT ON TABLE draenei_content.api_waiters IS
'Until when callers of a priority are known to wait for a slot.';
COMMENT ON COLUMN draenei_content.api_waiters.scope IS
'host[:port] of the API';
COMMENT ON COLUMN draenei_content.api_waiters.priority IS
'0 goes first';
COMMENT ON COLUMN draenei_content.api_waiters.wanted_until IS
'they wait until then';

-- step: what quarantined_objects holds
COMMENT ON TABLE draenei_content.quarantined_objects IS
'Objects in the bucket that belong to no row, or differ from their row''s image. They are left alone, for a person to decide.';
COMMENT ON COLUMN draenei_content.quarantined_objects.s3_key IS
'key of the object';
COMMENT ON COLUMN draenei_content.quarantined_objects.etag IS
'its ETag when it was found';
COMMENT ON COLUMN draenei_content.quarantined_objects.size_bytes IS
'its size in bytes when it was found';
COMMENT ON COLUMN draenei_content.quarantined_objects.reason IS
'what is wrong with it';
COMMENT ON COLUMN draenei_content.quarantined_objects.found_at IS
'when it was found';

-- step: what schema_migrations holds
COMMENT ON TABLE draenei_content.schema_migrations IS
'Which files of sql/ were applied.';
COMMENT ON COLUMN draenei_content.schema_migrations.version IS
'number of the file';
COMMENT ON COLUMN draenei_content.schema_migrations.name IS
'its name';
COMMENT ON COLUMN draenei_content.schema_migrations.applied_at IS
'when it was applied';
COMMENT ON COLUMN draenei_content.schema_migrations.compatible_from IS
'oldest version whose programs can use this schema; NULL: none older';

-- step: the record
INSERT INTO draenei_content.schema_migrations (version, name)
VALUES (14, '014_comments_and_views.sql')
ON CONFLICT DO NOTHING;
