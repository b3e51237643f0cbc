-- Each applied revision with whether it repeats what its peer reported before it: an agent reports its revision again after a change
-- of the directory. The planner takes a view apart, so that its conditions reach the tables' indexes.
CREATE VIEW applied_step AS
SELECT it.*, (it.epoch, it.revision, it.ok, it.error) IS NOT DISTINCT FROM (before.epoch, before.revision, before.ok, before.error)
    AS repeats
FROM applied_revision AS it LEFT JOIN LATERAL (
    (SELECT * FROM applied_revision AS earlier WHERE earlier.peer = it.peer AND (earlier.at, earlier.sequence) < (it.at, it.sequence)
     ORDER BY at DESC, sequence DESC LIMIT 1)
    UNION ALL
    (SELECT * FROM applied_before AS earlier WHERE earlier.peer = it.peer AND (earlier.at, earlier.sequence) < (it.at, it.sequence))
    ORDER BY at DESC, sequence DESC LIMIT 1
) AS before ON true;
