-- An operator's name stands in the audit log, so it belongs to one token. Of tokens that share one the oldest keeps it.
UPDATE operator_token SET name = left(name, 50) || '-' || left(encode(digest, 'hex'), 12)
WHERE digest IN (
    SELECT digest FROM (
        SELECT digest, row_number() OVER (PARTITION BY name ORDER BY created_at, digest) AS place FROM operator_token
    ) AS numbered WHERE place > 1
);
-- Pages go on after the last name, as everywhere in the order of code points.
ALTER TABLE operator_token ALTER COLUMN name TYPE text COLLATE "C";
ALTER TABLE join_token ALTER COLUMN id TYPE text COLLATE "C";
CREATE UNIQUE INDEX operator_token_name ON operator_token (name);

-- The callout forgets a token that was removed.
CREATE FUNCTION tell_operator() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('warren_admission', TG_TABLE_NAME || ' ' || encode(coalesce(NEW.digest, OLD.digest), 'hex'));
    RETURN NULL;
END
$$;
CREATE TRIGGER operator_token_told AFTER INSERT OR UPDATE OR DELETE ON operator_token
    FOR EACH ROW EXECUTE FUNCTION tell_operator();
