-- name: add_audit
INSERT INTO audit (at, actor, client, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6);

-- name: audit_page
SELECT seq, at, actor, client, action, subject, detail FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: audit_page_of_scope
-- What was done to peers of a scope, and to tunnels of which one is an end: the one that got the order, or one of a derived name.
SELECT seq, at, actor, client, action, subject, detail FROM audit
WHERE seq > $1 AND action IN ('retag', 'set_priority', 'revoke', 'rekey_tunnel', 'restart_tunnel') AND EXISTS (
    SELECT FROM peer_tag JOIN peer ON peer.id = peer_tag.peer
    WHERE peer_tag.tag = ANY ($3::text[]) AND peer_tag.tag = ANY (peer.tags) AND peer_tag.since <= audit.at
      AND (peer_tag.peer = audit.detail::jsonb ->> 'peer'
           OR strpos(audit.subject, '+') > 0
              AND peer_tag.peer IN (split_part(audit.subject, '+', 1), split_part(audit.subject, '+', 2)))
)
ORDER BY seq LIMIT $2;
