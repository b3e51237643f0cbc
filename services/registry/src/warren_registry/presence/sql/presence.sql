-- name: all_presence
SELECT peer, state, since, last_seen, reason FROM presence;

-- name: save_presence
INSERT INTO presence (peer, state, since, last_seen, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (peer) DO UPDATE SET state = $2, since = $3, last_seen = $4, reason = $5;
