-- The addresses at which members are called (host names are not kept here): no other peer may announce a network around one,
-- unless its join token names it.
CREATE TABLE peer_endpoint (
    peer    text NOT NULL REFERENCES peer ON DELETE CASCADE,
    address inet NOT NULL,
    PRIMARY KEY (peer, address)
);
CREATE INDEX peer_endpoint_address ON peer_endpoint USING gist (address inet_ops);
-- A host name holds no colon, and its last label is not of digits alone (RFC 1123, 2.1).
INSERT INTO peer_endpoint (peer, address)
    SELECT DISTINCT id, CASE WHEN said ~ ':' OR said ~ '^[0-9.]+$' THEN said::inet END
    FROM peer, jsonb_array_elements_text(announcement -> 'endpoints') AS said
    WHERE revoked_at IS NULL AND (said ~ ':' OR said ~ '^[0-9.]+$');

-- What of the peer's own word a record was told without, because a policy gives it to another end.
ALTER TABLE directory_record ADD COLUMN withheld text NOT NULL DEFAULT '';
