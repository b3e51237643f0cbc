"""Puts the operator's verbs under `warren`."""

import typer

from warren_cli.remote import (
    agent,
    epoch,
    events,
    health,
    peers,
    policies,
    policy_history,
    route,
    status,
    tokens,
    tunnels,
)


def register(app: typer.Typer) -> None:
    """Add every operator's verb."""
    policy_history.register(policies.app)
    app.add_typer(policies.app, name="policy")
    app.add_typer(peers.app, name="peers")
    app.add_typer(tunnels.app, name="tunnels")
    app.add_typer(tokens.app, name="token")
    app.add_typer(epoch.app, name="epoch")
    app.command("status", help=status.HELP)(status.status_command)
    app.command("events", help=events.HELP)(events.events_command)
    app.command("route")(route.route_command)
    app.command("health")(health.health_command)
    app.command("enrol", context_settings=agent.PASSED_ON)(agent.enrol_command)
    app.add_typer(agent.app, name="agent")
