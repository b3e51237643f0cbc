"""The verbs of this package, each imported only when it is called: `warren --help` waits for none of them.

A verb's module has a function that adds it to a `typer.Typer`, as those of other packages have (`warren_cli.plugins`).
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any

import typer

from warren_cli.plain_options import take_plainly
from warren_cli.plugins import new_holder

VERBS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "sign-in": ("warren_cli.remote.sign_in", "Print a link that signs a browser in to the web page, once."),
        "status": ("warren_cli.remote.status", "Show the fleet on one screen, worst first."),
        "policy": (
            "warren_cli.remote.policies",
            "What the operator states: check, plan, apply, list, show, history, diff, rollback, delete.",
        ),
        "peers": ("warren_cli.remote.peers", "The gateways of the fleet: list, show, retag, priority, revoke."),
        "tunnels": ("warren_cli.remote.tunnels", "The tunnels of the fleet: list, show, history, rekey, restart."),
        "top": ("warren_cli.remote.top", "Watch the tunnels of the fleet live, worst first."),
        "events": ("warren_cli.remote.events", "Print events: what happened, or with --follow what happens."),
        "route": ("warren_cli.remote.route", "Show which tunnel a destination takes from each peer."),
        "explain": ("warren_cli.remote.explain", "Say why a tunnel is not up, and what to do."),
        "trace": ("warren_cli.remote.trace", "Trace a revision, agent by agent."),
        "token": ("warren_cli.remote.tokens", "Join tokens and bearer tokens: create, operator, list, remove."),
        "audit": ("warren_cli.remote.audit", "What operators have done: list, verify, export."),
        "health": ("warren_cli.remote.health", "Show whether every part is ready."),
        "enrol": ("warren_cli.remote.agent", "Join the fleet with a join token."),
        "agent": (
            "warren_cli.remote.agent",
            "The agent of this machine: run, doctor, support-bundle, release, protection.",
        ),
        "ike": ("warren_cli.ike.commands", "Look at IKEv2: probe a gateway, decode a capture."),
        "trust": ("warren_cli.remote.trust", "Show the keys that other systems on the bus verify by."),
        "epoch": ("warren_cli.remote.epoch", "After a restore from a backup: advance."),
    }
)
"""By verb: the module whose `register` adds it, and what it is for, in the list of verbs."""


@cache
def command_of(verb: str) -> Any:
    """The command or group of a verb (click's); None for one that is not of this package."""
    if verb not in VERBS:
        return None
    holder = new_holder()
    import_module(VERBS[verb][0]).register(holder)
    found = typer.main.get_group(holder).commands.get(verb)
    take_plainly(found)
    return found
