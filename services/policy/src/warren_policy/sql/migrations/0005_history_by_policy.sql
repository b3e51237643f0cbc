-- The versions of one policy, the newest first, and the last one of each that was deleted: without an index each look-up read the
-- history of all policies backwards until its own entries.
CREATE INDEX policy_history_by_policy ON policy_history (policy, revision);
