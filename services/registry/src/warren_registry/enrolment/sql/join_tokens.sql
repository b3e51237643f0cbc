-- name: join_token
-- Locked: its uses are counted.
SELECT * FROM join_token WHERE id = $1 FOR UPDATE;

-- name: add_join_token
INSERT INTO join_token (id, digest, tags, uses, used, peer, subnets, note, created_by, created_at, expires_at)
VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10);

-- name: spend_join_token
-- The check constraint refuses a use beyond the limit.
UPDATE join_token SET used = used + 1 WHERE id = $1;

-- name: join_token_page
SELECT * FROM join_token WHERE id > $1 ORDER BY id LIMIT $2;

-- name: remove_join_token
DELETE FROM join_token WHERE id = $1 RETURNING *;

-- name: known_tags
-- Tags that a peer carries, or that a token still in use would give.
SELECT DISTINCT tag FROM (
    SELECT unnest(tags) AS tag FROM peer WHERE revoked_at IS NULL
    UNION ALL
    SELECT unnest(tags) FROM join_token WHERE used < uses AND expires_at > $1
) AS every ORDER BY tag;
