-- How the bus is reached, which the trust document states: URLs of its servers, and the CAs (PEM) that vouch for them.
ALTER TABLE trust ADD COLUMN servers text[] NOT NULL DEFAULT '{}', ADD COLUMN authorities text[] NOT NULL DEFAULT '{}';
