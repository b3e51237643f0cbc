-- The highest version that each id ever had, in one row an id. It was found by reading the whole history after every change.
CREATE TABLE policy_version (
    policy  text PRIMARY KEY,
    version integer NOT NULL
);
INSERT INTO policy_version (policy, version) SELECT policy, max(version) FROM policy_history GROUP BY policy;
DROP INDEX policy_history_versions;
