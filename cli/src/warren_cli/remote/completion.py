"""Completion of ids and kinds in a shell: asked of the API server, briefly and without a word where it cannot answer."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Annotated, Any

import typer

from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, connect, trust_by
from warren_contracts.commands import PeerList, PolicyList, TunnelList
from warren_contracts.events import KINDS

LIMIT_SECONDS = 2.0
ENTRIES = 500

Complete = Callable[[typer.Context, str], list[str]]


def kinds(incomplete: str) -> list[str]:
    """Kinds of events."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def peers(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of peers."""
    return _ids(context, incomplete, "peers", PeerList, lambda reply: [entry.peer for entry in reply.peers])


def policies(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of policies."""
    return _ids(context, incomplete, "policies", PolicyList, lambda reply: [it.policy.id for it in reply.policies])


def tunnels(context: typer.Context, incomplete: str) -> list[str]:
    """Names of tunnels."""
    return _ids(context, incomplete, "tunnels", TunnelList, lambda reply: [entry.name for entry in reply.tunnels])


TunnelName = Annotated[str, typer.Argument(metavar="TUNNEL", autocompletion=tunnels)]


def _ids(
    context: typer.Context, incomplete: str, path: str, reply: Any, names: Callable[[Any], list[str]]
) -> list[str]:
    """Those that begin with what is typed. The options that stand before it, and the environment, say where to ask."""
    given = context.params
    try:
        with redirect_stderr(io.StringIO()):  # a warning would stand in the line that is typed
            trust_by(given.get("ca_file"), bool(given.get("cleartext")))
            with connect(given.get("url") or URL, given.get("token_file")) as api:
                api.http.limit_s = LIMIT_SECONDS
                found = names(api.call("GET", path_of(path), reply, None, limit=ENTRIES))
    except Exception:  # noqa: BLE001 - whatever is wrong is said when the verb runs
        return []
    return [name for name in found if name.startswith(incomplete)]
