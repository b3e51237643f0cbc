"""What happened to tunnels and peers: written from the stream EVENT, read by operators.

| module | purpose |
|---|---|
| `rows` | what is stored, and which rows an event gives |
| `timeline` | entries and strips from rows |
| `writer` | follows EVENT and stores its rows, with the position up to which they are stored |
| `queries` | the history of a tunnel, and the fleet at an instant |
| `postgres` | both on PostgreSQL, in partitions of a day |
"""
