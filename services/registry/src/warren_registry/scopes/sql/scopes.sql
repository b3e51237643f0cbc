-- name: holders
-- The tags of the peer itself are compared, too: a process of an older release, which does not write `peer_tag`, may have changed them.
SELECT peer_tag.peer, min(peer_tag.since) AS since FROM peer_tag JOIN peer ON peer.id = peer_tag.peer
WHERE peer_tag.tag = ANY ($1::text[]) AND peer_tag.tag = ANY (peer.tags) AND peer_tag.peer > $2
GROUP BY peer_tag.peer ORDER BY peer_tag.peer LIMIT $3;

-- name: save_tags
WITH gone AS (DELETE FROM peer_tag WHERE peer = $1 AND NOT tag = ANY ($2::text[]))
INSERT INTO peer_tag (peer, tag, since) SELECT DISTINCT $1, unnest($2::text[]), $3::timestamptz ON CONFLICT DO NOTHING;
