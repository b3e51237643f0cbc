"""Rows for tests: a peer and a join token with something in every field."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from warren_contracts.peers import Announcement
from warren_registry.enrolment.model import JoinTokenRow
from warren_registry.peers.model import Peer

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
"""With microseconds: PostgreSQL keeps them, and so must whatever reads it."""
NKEY = "U" + "A" * 55
OTHER = "U" + "B" * 55


def peer(name: str, nkey: str = NKEY, version: int = 1, *subnets: str, **changes: Any) -> Peer:
    """A peer that announced `subnets`."""
    said = Announcement(subnets=tuple(ip_network(text) for text in subnets))
    base = Peer(
        name, nkey, ("a", "b"), version, "t", NOW, allowed=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        hostname="h.example.org", announcement=said, announced_at=NOW,
    )  # fmt: skip
    return replace(base, **changes)


def token(name: str = "t", **changes: Any) -> JoinTokenRow:
    """A join token of two uses, none of them spent, that is valid for an hour."""
    base = JoinTokenRow(
        name, b"\x01" * 32, ("a",), 2, 0, NOW, NOW + timedelta(hours=1), "spoke-1", (ip_network("10.0.0.0/8"),),
        "note", "ann",
    )  # fmt: skip
    return replace(base, **changes)
