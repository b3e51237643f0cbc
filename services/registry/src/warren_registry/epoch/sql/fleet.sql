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
SELECT epoch, revision, policy_key, registry_key, servers, authorities FROM trust ORDER BY epoch DESC, revision DESC LIMIT 1;

-- name: add_trust
INSERT INTO trust (epoch, revision, policy_key, registry_key, servers, authorities) VALUES ($1, $2, $3, $4, $5, $6);
