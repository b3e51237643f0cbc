"""Pure domain: what a policy means. Tunnels, relations, findings and effects are derived from values alone.

Stands on `warren_contracts` and under the services, the agent and the command. No event loop, no socket, no clock and no
randomness: `expand(policies, directory, me)` gives the same answer on every host that asks. Nothing is imported here, so
that an agent loads `expand` without `check`.

| module | says |
|---|---|
| `expand` | the tunnels of one peer (`expand`), and why others were not derived (`explain`) |
| `relations` | who is told of a policy (`readers`), and whose records each reader must see (`relations`) |
| `check` | what is wrong with a set of policies before it is published |
| `plan` | the effect of a change on every tunnel |
| `profiles`, `algorithms` | crypto profiles by name, and what each document says of each algorithm |
"""
