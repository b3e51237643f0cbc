-- name: published_states
SELECT reader, peer, epoch, revision, peer_version, withdrawn, signed_by, withheld FROM directory_record;

-- name: save_record
INSERT INTO directory_record (reader, peer, epoch, revision, peer_version, withdrawn, payload, signature, signed_by,
                              changed_at, published, withheld)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, false, $11)
ON CONFLICT (reader, peer) DO UPDATE
SET epoch = $3, revision = $4, peer_version = $5, withdrawn = $6, payload = $7, signature = $8, signed_by = $9,
    changed_at = $10, published = false, withheld = $11;

-- name: pending_records
-- Additions and changes before withdrawals.
SELECT reader, peer, epoch, revision, withdrawn, payload, signature, stream_sequence, changed_at FROM directory_record
WHERE NOT published ORDER BY withdrawn, revision LIMIT $1;

-- name: record_published
-- Only if it was not replaced meanwhile; the sequence is stored in any case.
UPDATE directory_record SET stream_sequence = $3, published = (revision = $4) WHERE reader = $1 AND peer = $2;

-- name: publish_all_again
UPDATE directory_record SET published = false, stream_sequence = 0;

-- name: last_sequence
SELECT coalesce(max(stream_sequence), 0) FROM directory_record;

-- name: record_page
SELECT reader, peer, epoch, revision, payload, signature FROM directory_record
WHERE reader = $1 AND peer > $2 AND NOT withdrawn ORDER BY peer LIMIT $3;

-- name: reclaim_tombstones
DELETE FROM directory_record WHERE withdrawn AND published AND changed_at < $1 RETURNING revision;
