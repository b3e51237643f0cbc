-- Pages go on after the last id of the one before: in the order of code points, which is Python's and every server's, whatever
-- locale the database was made with (and no upgrade of the system's locales reorders the index).
ALTER TABLE policy ALTER COLUMN id TYPE text COLLATE "C";
