-- Announcements from before their size was limited (domain/announcement.py): forgotten, and the peer is asked to connect and
-- to announce anew, which is refused by name where it is still too large. 32 kB here: jsonb's text has more blanks.
INSERT INTO kick (bus_user, requested_at)
    SELECT id, now() FROM peer WHERE octet_length(announcement::text) > 32768 AND revoked_at IS NULL;
DELETE FROM peer_subnet WHERE peer IN (SELECT id FROM peer WHERE octet_length(announcement::text) > 32768);
UPDATE peer SET announcement = NULL, identity = id WHERE octet_length(announcement::text) > 32768;
