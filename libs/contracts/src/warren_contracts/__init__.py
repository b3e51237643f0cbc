"""Shared contracts: names, subjects, models, events, commands and error replies.

The lowest layer: every other package may import it and it imports none of them. Released models are compatible: fields
are added, never renamed or reused, readers ignore unknown fields of documents and events, and tests compare the models
with the frozen JSON Schemas in `tests/contract/schemas/`. What operators write (policies, commands) is strict instead:
an unknown field is an error that names it.
"""
