"""The live view of the fleet, for pages and programs: a snapshot, then changes, over server-sent events or a WebSocket.

| module | purpose |
|---|---|
| `model` | the fleet as it is known, and what an event changes in it |
| `filters` | which rows a reader wants |
| `scoped` | what a reader of a part of the fleet is sent |
| `messages` | changes as JSON, in parts |
| `hub` | one reader of EVENT for all readers of this process: backlogs, resumption, slow readers |
"""
