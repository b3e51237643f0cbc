-- The audit log is added to and never changed. The trigger stops mistakes, whoever makes them. What stops the service's own role
-- is that the log is not its own: where whoever made the schema left `seal_audit` there, it hands the table over.
CREATE FUNCTION keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is added to, and never changed' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION keep_audit();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION keep_audit();
DO $$
BEGIN
    IF to_regprocedure('seal_audit()') IS NOT NULL THEN
        PERFORM seal_audit();
    END IF;
END
$$;
