-- name: head
SELECT epoch, revision FROM head;

-- name: lock_head
-- One commit at a time; held until the end of the transaction.
SELECT epoch, revision, audit_seq, audit_hash FROM head FOR UPDATE;

-- name: move_head
UPDATE head SET epoch = $1, revision = $2, audit_seq = $3, audit_hash = $4;

-- name: void_sets
-- Of an epoch that is over: they may not be published any more. The events of their revisions still are.
DELETE FROM outbox_set;

-- name: policies
SELECT revision, document FROM policy;

-- name: versions
-- The highest version that each id ever had: a version is never used twice.
SELECT policy, version FROM policy_version;

-- name: put_version
INSERT INTO policy_version (policy, version) VALUES ($1, $2)
ON CONFLICT (policy) DO UPDATE SET version = excluded.version;

-- name: policy
SELECT revision, document, updated_at, actor FROM policy WHERE id = $1;

-- name: policy_page
SELECT revision, document, updated_at, actor FROM policy WHERE id > $1 ORDER BY id LIMIT $2;

-- name: history
SELECT revision, version, action, document, at, actor FROM policy_history JOIN revision USING (revision)
WHERE policy = $1 AND revision < $2 ORDER BY revision DESC LIMIT $3;

-- name: deleted_page
-- Ids that have a version and no policy, each with its newest entry, which is the deletion.
SELECT known.policy, last.version, last.revision, revision.at, revision.actor
FROM policy_version AS known
CROSS JOIN LATERAL (
    SELECT version, revision FROM policy_history WHERE policy = known.policy ORDER BY revision DESC LIMIT 1
) AS last
JOIN revision ON revision.revision = last.revision
WHERE known.policy COLLATE "C" > $1 AND NOT EXISTS (SELECT FROM policy WHERE id = known.policy)
ORDER BY known.policy COLLATE "C" LIMIT $2;

-- name: insert_revision
INSERT INTO revision (revision, epoch, at, actor, traceparent) VALUES ($1, $2, $3, $4, $5);

-- name: put_policy
INSERT INTO policy (id, version, revision, document, updated_at, actor) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE
    SET version = excluded.version, revision = excluded.revision, document = excluded.document,
        updated_at = excluded.updated_at, actor = excluded.actor;

-- name: delete_policy
DELETE FROM policy WHERE id = $1;

-- name: insert_history
INSERT INTO policy_history (revision, policy, version, action, document) VALUES ($1, $2, $3, $4, $5);

-- name: insert_audit
INSERT INTO audit (seq, at, actor, action, epoch, revision, trace_id, detail, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: audit
SELECT seq, at, actor, action, epoch, revision, trace_id, detail, hash FROM audit ORDER BY seq;

-- name: audit_page
SELECT seq, at, actor, action, epoch, revision, trace_id, detail, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: revision_at
SELECT revision, epoch, at, actor FROM revision WHERE at <= $1 ORDER BY revision DESC LIMIT 1;

-- name: policies_at
-- The newest version of each policy up to an instant; a deletion is one without a document.
SELECT policy, version, revision, document FROM (
    SELECT DISTINCT ON (policy) policy, version, revision, document
    FROM policy_history JOIN revision USING (revision)
    WHERE at <= $1 ORDER BY policy, revision DESC
) AS newest
WHERE document IS NOT NULL ORDER BY policy;

-- name: audit_head
SELECT audit_seq, audit_hash FROM head;

-- name: insert_outbox_set
INSERT INTO outbox_set (revision, ordinal, reader, event_id, payload) VALUES ($1, $2, $3, $4, $5);

-- name: insert_outbox_event
INSERT INTO outbox_event (revision, ordinal, subject, type, event_id, payload) VALUES ($1, $2, $3, $4, $5, $6);

-- name: notify
-- Delivered after the commit, to every relay that listens.
SELECT pg_notify('warren_policy_outbox', $1::text);

-- name: try_relay_lock
-- One relay at a time, for this transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('warren.policy.relay', 0));

-- name: oldest_unpublished
SELECT revision, epoch, at, traceparent FROM revision WHERE published_at IS NULL ORDER BY revision LIMIT 1;

-- name: outbox_sets
SELECT reader, event_id, payload FROM outbox_set WHERE revision = $1 ORDER BY ordinal;

-- name: outbox_events
SELECT subject, type, event_id, payload FROM outbox_event WHERE revision = $1 ORDER BY ordinal;

-- name: keep_sets
-- What is published now is what a lost stream is made of again.
INSERT INTO reader_set (reader, revision, event_id, payload)
SELECT reader, revision, event_id, payload FROM outbox_set WHERE revision = $1
ON CONFLICT (reader) DO UPDATE
    SET revision = excluded.revision, event_id = excluded.event_id, payload = excluded.payload;

-- name: clear_outbox_sets
DELETE FROM outbox_set WHERE revision = $1;

-- name: clear_outbox_events
DELETE FROM outbox_event WHERE revision = $1;

-- name: mark_published
UPDATE revision SET published_at = now() WHERE revision = $1;

-- name: pending
SELECT count(*) FROM revision WHERE published_at IS NULL;

-- name: published
SELECT reader, epoch, revision FROM reader_set JOIN revision USING (revision);

-- name: published_set
SELECT epoch, revision, at, traceparent, event_id, payload FROM reader_set JOIN revision USING (revision)
WHERE reader = $1;
