"""Pure domain logic: derive tunnels, relations, findings and effects from policies and the directory.

Imports `warren_contracts` only; used by the services, the agent and the CLI. No event loop, socket, clock or randomness:
`expand(policies, directory, me)` has the same result on every host. This module imports nothing, so that an agent loads
`expand` without `check`.

| module | purpose |
|---|---|
| `expand` | the tunnels of one peer (`expand`), and why others were not derived (`explain`) |
| `incremental` | the same after changes of a few records, by the difference (`Expander`) |
| `relations` | the readers of a policy (`readers`), and the records that each reader needs (`relations`) |
| `check` | errors and warnings in a set of policies, before it is published |
| `plan` | the effect of a change on every tunnel |
| `policy_diff` | what differs between two versions of a policy |
| `profiles`, `algorithms` | crypto profiles by name, and the status of each algorithm in each document |
"""
