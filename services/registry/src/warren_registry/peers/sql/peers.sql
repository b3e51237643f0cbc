-- name: peer_by_id
SELECT * FROM peer WHERE id = $1;

-- name: peer_by_nkey
SELECT * FROM peer WHERE nkey = $1 AND revoked_at IS NULL;

-- name: key_revoked
SELECT EXISTS (SELECT FROM revoked_key WHERE nkey = $1);

-- name: identity_holder
-- Whose identity this is: announced, or by default the id. By its canonical name (warren_contracts.identities).
SELECT id FROM peer WHERE identity = $1 AND id <> $2 AND revoked_at IS NULL;

-- name: overlapping
-- Networks of other peers that share an address with one of these.
SELECT peer_subnet.peer, subnet, allowed, priority FROM peer_subnet JOIN peer ON peer.id = peer_subnet.peer
WHERE peer_subnet.peer <> $2 AND subnet && ANY ($1::cidr[]) ORDER BY peer_subnet.peer, subnet;

-- name: endpoints_within
SELECT peer, address FROM peer_endpoint WHERE peer <> $2 AND address <<= ANY ($1::cidr[]) ORDER BY peer, address;

-- name: save_peer
INSERT INTO peer (id, nkey, tags, version, join_token, hostname, allowed, identity, announcement, enrolled_at, announced_at,
                  revoked_at, priority, tunnel_order)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (id) DO UPDATE
SET nkey = $2, tags = $3, version = $4, join_token = $5, hostname = $6, allowed = $7, identity = $8, announcement = $9,
    enrolled_at = $10, announced_at = $11, revoked_at = $12, priority = $13, tunnel_order = $14;

-- name: clear_subnets
DELETE FROM peer_subnet WHERE peer = $1;

-- name: add_subnets
INSERT INTO peer_subnet (peer, subnet) SELECT DISTINCT $1, unnest($2::cidr[]);

-- name: clear_endpoints
DELETE FROM peer_endpoint WHERE peer = $1;

-- name: add_endpoints
INSERT INTO peer_endpoint (peer, address) SELECT DISTINCT $1, unnest($2::inet[]);

-- name: add_revoked_key
INSERT INTO revoked_key (nkey, peer, version, revoked_at) VALUES ($1, $2, $3, $4) ON CONFLICT (nkey) DO NOTHING;

-- name: peer_page
SELECT * FROM peer WHERE id > $1 AND ($3 OR revoked_at IS NULL) ORDER BY id LIMIT $2;

-- name: peer_page_of_scope
SELECT * FROM peer WHERE id > $1 AND ($3 OR revoked_at IS NULL) AND tags && $4::text[] ORDER BY id LIMIT $2;

-- name: peers_changed_since
SELECT * FROM peer WHERE version > $1 ORDER BY version;
