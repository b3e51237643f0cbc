-- name: add_operator_token
-- No row when the name is taken.
INSERT INTO operator_token (digest, name, role, created_by, created_at, expires_at, scope) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO NOTHING RETURNING true;

-- name: operator_token_page
SELECT * FROM operator_token WHERE name > $1 ORDER BY name LIMIT $2;

-- name: remove_operator_token
DELETE FROM operator_token WHERE name = $1 RETURNING *;

-- name: valid_operators
SELECT name FROM operator_token WHERE expires_at IS NULL OR expires_at > $1;

-- name: operator_token
SELECT * FROM operator_token WHERE digest = $1;
