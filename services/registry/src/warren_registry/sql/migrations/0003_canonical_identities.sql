-- peer.identity holds the canonical name of an identity from now on (warren_contracts.identities), so that the unique index
-- knows all spellings of it. An id is its own. What was announced cannot be rewritten here: it is forgotten, and the peer is
-- asked to connect and to announce anew, which decides by the rules of today.
INSERT INTO kick (bus_user, requested_at)
    SELECT id, now() FROM peer WHERE announcement ->> 'identity' IS NOT NULL AND revoked_at IS NULL;
DELETE FROM peer_subnet WHERE peer IN (SELECT id FROM peer WHERE announcement ->> 'identity' IS NOT NULL);
UPDATE peer SET announcement = NULL WHERE announcement ->> 'identity' IS NOT NULL;
UPDATE peer SET identity = 'fqdn:' || id;
