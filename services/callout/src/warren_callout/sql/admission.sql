-- What the auth callout reads of the registry's schema. It writes nothing.

-- name: key_status
SELECT $1::text AS nkey, peer.id, peer.tags, coalesce(revoked_key.version, peer.version) AS version,
       revoked_key.nkey IS NOT NULL OR peer.revoked_at IS NOT NULL AS revoked
FROM (SELECT) AS always
LEFT JOIN peer ON peer.nkey = $1
LEFT JOIN revoked_key ON revoked_key.nkey = $1;

-- name: all_keys
SELECT peer.nkey, peer.id, peer.tags, peer.version, peer.revoked_at IS NOT NULL AS revoked FROM peer
WHERE NOT EXISTS (SELECT FROM revoked_key WHERE revoked_key.nkey = peer.nkey)
UNION ALL
SELECT nkey, peer, '{}'::text[], version, true FROM revoked_key;

-- name: join_token
SELECT id, digest, uses, used, expires_at FROM join_token WHERE id = $1;

-- name: operator_token
SELECT name, role, digest, expires_at, scope IS NOT NULL AS scoped FROM operator_token WHERE digest = $1;

-- name: all_operator_tokens
SELECT name, role, digest, expires_at, scope IS NOT NULL AS scoped FROM operator_token;
