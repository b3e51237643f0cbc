-- name: peers
SELECT id, view FROM peer;

-- name: tunnels
SELECT peer, name, view FROM tunnel;

-- name: put_peers
INSERT INTO peer (id, view) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (id) DO UPDATE SET view = excluded.view;

-- name: put_tunnels
INSERT INTO tunnel (peer, name, view) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT (peer, name) DO UPDATE SET view = excluded.view;

-- name: delete_peers
DELETE FROM peer WHERE id = ANY ($1::text[]);

-- name: delete_tunnels
DELETE FROM tunnel USING unnest($1::text[], $2::text[]) AS gone (peer, name)
WHERE tunnel.peer = gone.peer AND tunnel.name = gone.name;
