-- name: add_audit
INSERT INTO audit (at, actor, client, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6);

-- name: audit_page
SELECT seq, at, actor, client, action, subject, detail FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2;
