-- name: add_event
INSERT INTO outbox (event_id, subject, type, payload, traceparent, created_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: pending_events
SELECT id, event_id, subject, type, payload, traceparent, created_at FROM outbox ORDER BY id LIMIT $1;

-- name: events_done
DELETE FROM outbox WHERE id = ANY ($1::bigint[]);

-- name: add_kick
INSERT INTO kick (bus_user, requested_at) VALUES ($1, $2);

-- name: pending_kicks
SELECT id, bus_user FROM kick ORDER BY id LIMIT $1;

-- name: kicks_done
DELETE FROM kick WHERE id = ANY ($1::bigint[]);
