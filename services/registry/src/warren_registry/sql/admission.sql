-- Read by the auth callout alone. It writes nothing.

-- name: admission_of_key
SELECT $1::text AS nkey, peer.id, peer.tags, coalesce(revoked_key.version, peer.version) AS version,
       revoked_key.nkey IS NOT NULL OR peer.revoked_at IS NOT NULL AS revoked
FROM (SELECT) AS always
LEFT JOIN peer ON peer.nkey = $1
LEFT JOIN revoked_key ON revoked_key.nkey = $1;

-- name: admission_of_everybody
SELECT peer.nkey, peer.id, peer.tags, peer.version, peer.revoked_at IS NOT NULL AS revoked FROM peer
WHERE NOT EXISTS (SELECT FROM revoked_key WHERE revoked_key.nkey = peer.nkey)
UNION ALL
SELECT nkey, peer, '{}'::text[], version, true FROM revoked_key;

-- name: admission_join_token
SELECT * FROM join_token WHERE id = $1;

-- name: admission_operator
SELECT * FROM operator_token WHERE digest = $1;

-- name: admission_operators
SELECT * FROM operator_token;
