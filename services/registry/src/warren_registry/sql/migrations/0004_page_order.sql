-- Pages go on after the last peer of the one before: in the order of code points, which is Python's and every server's, whatever
-- locale the database was made with (and no upgrade of the system's locales reorders the indexes).
ALTER TABLE peer ALTER COLUMN id TYPE text COLLATE "C";
ALTER TABLE peer_subnet ALTER COLUMN peer TYPE text COLLATE "C";
ALTER TABLE directory_record ALTER COLUMN reader TYPE text COLLATE "C", ALTER COLUMN peer TYPE text COLLATE "C";
