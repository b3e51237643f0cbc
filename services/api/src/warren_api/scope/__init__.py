"""Scopes: what a token that is for a part of the fleet gets of each route.

| module | purpose |
|---|---|
| `rules` | the table: each route and what it does with a scope; a route that is not in it refuses tokens with one |
| `view` | the part of the fleet that a scope is, and what is shown of each document. Pure |
| `events` | the same of an event. Pure |
| `source` | reads the part from the registry, for a second or two |
| `lookups` | calls of services whose replies are limited to the part |
"""
