"""The words everybody shares: names, subjects, models, events, commands and error replies.

This is the lowest floor of the house: every other package imports it and it imports none of them. What is released here
is a promise: fields are added, never renamed or reused, readers ignore unknown fields of documents and events, and the
frozen JSON Schemas in `tests/contract/schemas/` prove it. What people write (policies, commands) is strict instead: an
unknown field is an error that names it.
"""
