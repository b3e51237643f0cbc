"""Which methods a path has: GET brings HEAD, and every path has OPTIONS (RFC 9110, 9.3)."""

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> tuple[str, ...]:
    """The methods of all routes that have this path, in order of names; empty: the path is unknown."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    if not found:
        return ()
    return tuple(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())))
