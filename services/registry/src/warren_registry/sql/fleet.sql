-- name: fleet_state
SELECT epoch, revision, tombstones_reclaimed, stream_incarnation FROM fleet;

-- name: next_revision
-- Gives $1 revisions and returns the last; holds the fleet's row until the commit, which orders all changes.
UPDATE fleet SET revision = revision + $1 RETURNING revision;

-- name: set_epoch
UPDATE fleet SET epoch = $1;

-- name: set_stream_incarnation
UPDATE fleet SET stream_incarnation = $1;

-- name: set_tombstones_reclaimed
UPDATE fleet SET tombstones_reclaimed = greatest(tombstones_reclaimed, $1);

-- name: last_trust
SELECT epoch, revision, policy_key, registry_key FROM trust ORDER BY epoch DESC, revision DESC LIMIT 1;

-- name: add_trust
INSERT INTO trust (epoch, revision, policy_key, registry_key) VALUES ($1, $2, $3, $4);

-- name: add_event
INSERT INTO outbox (event_id, subject, type, payload, traceparent, created_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: pending_events
SELECT id, event_id, subject, type, payload, traceparent, created_at FROM outbox ORDER BY id LIMIT $1;

-- name: events_done
DELETE FROM outbox WHERE id = ANY ($1::bigint[]);

-- name: add_kick
INSERT INTO kick (bus_user, requested_at) VALUES ($1, $2);

-- name: pending_kicks
SELECT id, bus_user FROM kick ORDER BY id LIMIT $1;

-- name: kicks_done
DELETE FROM kick WHERE id = ANY ($1::bigint[]);

-- name: all_presence
SELECT peer, state, since, last_seen, reason FROM presence;

-- name: save_presence
INSERT INTO presence (peer, state, since, last_seen, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (peer) DO UPDATE SET state = $2, since = $3, last_seen = $4, reason = $5;
