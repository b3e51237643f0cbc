-- name: position
SELECT sequence, first_at FROM history_position;

-- name: move_position
UPDATE history_position SET sequence = $1, first_at = LEAST(first_at, $2::timestamptz);

-- name: put_tunnels
INSERT INTO tunnel_transition (at, sequence, event_id, peer, tunnel, state, reason, detail, policy, other, initiator, removed)
SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::text[], $11::boolean[], $12::boolean[])
ON CONFLICT DO NOTHING;

-- name: put_peers
INSERT INTO peer_transition (at, sequence, event_id, peer, presence, reason, revoked)
SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::boolean[])
ON CONFLICT DO NOTHING;

-- name: put_applied
INSERT INTO applied_revision (at, sequence, event_id, peer, epoch, revision, ok, duration_ms, error)
SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[],
                     $8::double precision[], $9::text[])
ON CONFLICT DO NOTHING;

-- name: put_ends
INSERT INTO tunnel_end (tunnel, peer) SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING;

-- name: put_known
INSERT INTO known_peer (peer) SELECT DISTINCT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING;

-- name: partitions
-- The days of which a table has partitions.
SELECT right(child.relname, 8) AS day FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = $1::text::regclass ORDER BY day;

-- name: tunnel_ends
SELECT peer FROM tunnel_end WHERE tunnel = $1;

-- name: tunnel_page
SELECT * FROM tunnel_transition WHERE tunnel = $1 AND (at, sequence) < ($2, $3) ORDER BY at DESC, sequence DESC LIMIT $4;

-- name: tunnel_since
SELECT * FROM tunnel_transition WHERE tunnel = $1 AND at >= $2 ORDER BY at DESC, sequence DESC LIMIT $3;

-- name: tunnel_last
-- The newest row of each end of a tunnel before a moment.
SELECT newest.* FROM tunnel_end CROSS JOIN LATERAL (
    (SELECT * FROM tunnel_transition AS it
     WHERE it.tunnel = tunnel_end.tunnel AND it.peer = tunnel_end.peer AND (it.at, it.sequence) < ($2, $3)
     ORDER BY at DESC, sequence DESC LIMIT 1)
    UNION ALL
    (SELECT * FROM tunnel_before AS it
     WHERE it.tunnel = tunnel_end.tunnel AND it.peer = tunnel_end.peer AND (it.at, it.sequence) < ($2, $3))
    ORDER BY at DESC, sequence DESC LIMIT 1
) AS newest
WHERE tunnel_end.tunnel = $1;

-- name: peer_page
SELECT * FROM peer_transition WHERE peer = ANY ($1::text[]) AND (at, sequence) < ($2, $3)
ORDER BY at DESC, sequence DESC LIMIT $4;

-- name: peer_since
SELECT * FROM peer_transition WHERE peer = ANY ($1::text[]) AND at >= $2 ORDER BY at DESC, sequence DESC LIMIT $3;

-- name: peer_last
SELECT newest.* FROM unnest($1::text[]) AS wanted (peer) CROSS JOIN LATERAL (
    (SELECT * FROM peer_transition AS it WHERE it.peer = wanted.peer AND it.at < $2
     ORDER BY at DESC, sequence DESC LIMIT 1)
    UNION ALL
    (SELECT * FROM peer_before AS it WHERE it.peer = wanted.peer AND it.at < $2)
    ORDER BY at DESC, sequence DESC LIMIT 1
) AS newest;

-- name: applied_page
-- Without those that repeat what their peer reported before.
SELECT * FROM applied_step WHERE peer = ANY ($1::text[]) AND (at, sequence) < ($2, $3) AND NOT repeats
ORDER BY at DESC, sequence DESC LIMIT $4;

-- name: drop_repeats
-- The others, between two moments.
DELETE FROM applied_revision AS repeated USING applied_step AS found
WHERE found.at >= $1 AND found.at < $2 AND found.repeats AND (repeated.at, repeated.event_id) = (found.at, found.event_id);

-- name: tunnels_at
-- The newest row of every end up to an instant.
SELECT newest.* FROM tunnel_end CROSS JOIN LATERAL (
    (SELECT * FROM tunnel_transition AS it
     WHERE it.tunnel = tunnel_end.tunnel AND it.peer = tunnel_end.peer AND it.at <= $1
     ORDER BY at DESC, sequence DESC LIMIT 1)
    UNION ALL
    (SELECT * FROM tunnel_before AS it
     WHERE it.tunnel = tunnel_end.tunnel AND it.peer = tunnel_end.peer AND it.at <= $1)
    ORDER BY at DESC, sequence DESC LIMIT 1
) AS newest
WHERE NOT newest.removed;

-- name: peers_at
SELECT newest.* FROM known_peer CROSS JOIN LATERAL (
    (SELECT * FROM peer_transition AS it WHERE it.peer = known_peer.peer AND it.at <= $1
     ORDER BY at DESC, sequence DESC LIMIT 1)
    UNION ALL
    (SELECT * FROM peer_before AS it WHERE it.peer = known_peer.peer AND it.at <= $1)
    ORDER BY at DESC, sequence DESC LIMIT 1
) AS newest;

-- name: applied_at
-- The newest revision that each peer had applied completely.
SELECT newest.* FROM known_peer CROSS JOIN LATERAL (
    (SELECT * FROM applied_revision AS it WHERE it.peer = known_peer.peer AND it.at <= $1 AND it.ok
     ORDER BY at DESC, sequence DESC LIMIT 1)
    UNION ALL
    (SELECT * FROM applied_before AS it WHERE it.peer = known_peer.peer AND it.at <= $1 AND it.ok)
    ORDER BY at DESC, sequence DESC LIMIT 1
) AS newest;

-- name: keep_tunnels
-- Before a partition is removed: its newest row of each end. `{partition}` is a name of ours.
INSERT INTO tunnel_before
SELECT DISTINCT ON (tunnel, peer) * FROM {partition} ORDER BY tunnel, peer, at DESC, sequence DESC
ON CONFLICT (tunnel, peer) DO UPDATE SET
    at = excluded.at, sequence = excluded.sequence, event_id = excluded.event_id, state = excluded.state,
    reason = excluded.reason, detail = excluded.detail, policy = excluded.policy, other = excluded.other,
    initiator = excluded.initiator, removed = excluded.removed
WHERE (tunnel_before.at, tunnel_before.sequence) < (excluded.at, excluded.sequence);

-- name: keep_peers
INSERT INTO peer_before
SELECT DISTINCT ON (peer) * FROM {partition} ORDER BY peer, at DESC, sequence DESC
ON CONFLICT (peer) DO UPDATE SET
    at = excluded.at, sequence = excluded.sequence, event_id = excluded.event_id, presence = excluded.presence,
    reason = excluded.reason, revoked = excluded.revoked
WHERE (peer_before.at, peer_before.sequence) < (excluded.at, excluded.sequence);

-- name: keep_applied
INSERT INTO applied_before
SELECT DISTINCT ON (peer) * FROM {partition} WHERE ok ORDER BY peer, at DESC, sequence DESC
ON CONFLICT (peer) DO UPDATE SET
    at = excluded.at, sequence = excluded.sequence, event_id = excluded.event_id, epoch = excluded.epoch,
    revision = excluded.revision, ok = excluded.ok, duration_ms = excluded.duration_ms, error = excluded.error
WHERE (applied_before.at, applied_before.sequence) < (excluded.at, excluded.sequence);

-- name: forget_ends
-- Ends that were removed before the history begins, and have no row since.
DELETE FROM tunnel_end USING tunnel_before AS before
WHERE before.tunnel = tunnel_end.tunnel AND before.peer = tunnel_end.peer AND before.removed AND NOT EXISTS (
    SELECT FROM tunnel_transition AS it WHERE it.tunnel = tunnel_end.tunnel AND it.peer = tunnel_end.peer
);

-- name: forget_before
DELETE FROM tunnel_before AS before WHERE NOT EXISTS (
    SELECT FROM tunnel_end WHERE tunnel_end.tunnel = before.tunnel AND tunnel_end.peer = before.peer
);
