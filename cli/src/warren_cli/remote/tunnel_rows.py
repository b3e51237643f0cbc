"""Tunnels as rows: what a table, CSV or `warren top` shows of one, and in which order. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from warren_cli.errors import CliError
from warren_cli.remote.render import age, joined, moment, size
from warren_contracts.status import Evidence, FleetTunnel, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.tunnel_query import since_of

WORST_FIRST = (
    TunnelState.DOWN, TunnelState.ERROR, TunnelState.UNKNOWN, TunnelState.DEGRADED, TunnelState.CONNECTING, TunnelState.STANDBY,
    TunnelState.UP,
)  # fmt: skip
COLUMNS = ("TUNNEL", "STATE", "PEERS", "CIPHER", "IN", "OUT", "SINCE", "EVIDENCE", "REASON")
WIDE_COLUMNS = (*COLUMNS[:-1], "POLICY", "PACKETS IN", "PACKETS OUT", "REKEYS", "RESTARTS", "REPORTED", "REASON")
CSV_COLUMNS = (
    "tunnel", "state", "peers", "policy", "cipher", "bytes_in", "bytes_out", "packets_in", "packets_out", "rekeys", "restarts", "since",
    "evidence", "evidence_at", "reported_at", "stale", "reason",
)  # fmt: skip


class SortError(CliError):
    """The value of --sort is wrong."""


class ShownTunnel(NamedTuple):
    """Traffic, cipher and counters are of the first end that is current, as seen there; of stale ends only if there is no other."""

    tunnel: FleetTunnel
    policy: str
    cipher: str
    first: TunnelStatus | None
    since: datetime | None
    evidence: Evidence
    reported_at: datetime | None
    reason: str


def row_of(tunnel: FleetTunnel, now: datetime) -> ShownTunnel:
    """What is shown of a tunnel."""
    current = [tunnel.ends[peer] for peer in sorted(tunnel.ends) if peer not in tunnel.stale]
    ends = current or [tunnel.ends[peer] for peer in sorted(tunnel.ends)]
    sa = next((sa for end in ends for sa in end.link.children), None)
    return ShownTunnel(
        tunnel, next((end.policy for end in ends if end.policy is not None), ""), sa.cipher if sa else "", ends[0] if ends else None,
        since_of(tunnel) or max((end.since for end in ends if end.since), default=None),
        max((end.evidence for end in ends if end.evidence.at), key=_seen, default=Evidence()),
        max(tunnel.reported_at.values(), default=None), _why(tunnel, now),
    )  # fmt: skip


def cells(row: ShownTunnel, now: datetime, *, wide: bool = False) -> tuple[object, ...]:
    """The cells of COLUMNS, or of WIDE_COLUMNS."""
    traffic = row.first.traffic if row.first else None
    shown: list[object] = [
        row.tunnel.name, row.tunnel.state.value, joined(row.tunnel.peers), row.cipher or "-",
        size(traffic.bytes_in) if traffic else "-", size(traffic.bytes_out) if traffic else "-", moment(row.since),
        evidence_text(row.evidence, now),
    ]  # fmt: skip
    if wide:
        shown += [
            row.policy or "-", traffic.packets_in if traffic else "-", traffic.packets_out if traffic else "-",
            row.first.rekeys if row.first else "-", row.first.restarts if row.first else "-",
            f"{age(row.reported_at, now)} ago" if row.reported_at else "-",
        ]  # fmt: skip
    return (*shown, row.reason or "-")


def csv_cells(row: ShownTunnel) -> tuple[object, ...]:
    """The cells of CSV_COLUMNS: numbers without units, times in ISO 8601."""
    first = row.first
    traffic = first.traffic if first else None
    return (
        row.tunnel.name, row.tunnel.state.value, " ".join(row.tunnel.peers), row.policy, row.cipher,
        *((traffic.bytes_in, traffic.bytes_out, traffic.packets_in, traffic.packets_out) if traffic else ("",) * 4),
        *((first.rekeys, first.restarts) if first else ("", "")), _iso(row.since), row.evidence.kind.value, _iso(row.evidence.at),
        _iso(row.reported_at), " ".join(row.tunnel.stale), row.reason,
    )  # fmt: skip


def evidence_text(evidence: Evidence, now: datetime | None = None) -> str:
    """What shows that packets pass, and how old it is."""
    return evidence.kind.value if evidence.at is None else f"{evidence.kind.value} {age(evidence.at, now)} ago"


def reason_text(status: TunnelStatus) -> str:
    """The reason of one end; empty if there is none."""
    if status.reason is ReasonCode.NONE:
        return ""
    return f"{status.reason.value} ({status.detail})" if status.detail else status.reason.value


def last_report(tunnel: FleetTunnel, peer: str, now: datetime | None = None) -> str:
    """When an end reported last."""
    at = tunnel.reported_at.get(peer)
    return f"last report {age(at, now)} ago" if at else "no report"


def _why(tunnel: FleetTunnel, now: datetime) -> str:
    reasons = {peer: reason_text(end) for peer, end in sorted(tunnel.ends.items()) if peer not in tunnel.stale}
    said = [f"{peer}: {reason}" for peer, reason in reasons.items() if reason]
    silent = [f"{peer}: stale ({last_report(tunnel, peer, now)})" for peer in tunnel.stale]
    outdated = [f"{peer}: intent stale" for peer in tunnel.unconfirmed]
    return ", ".join([*([tunnel.disagreement] if tunnel.disagreement else []), *said, *silent, *outdated])


def _seen(evidence: Evidence) -> float:
    return evidence.at.timestamp() if evidence.at else 0.0


def _iso(at: datetime | None) -> str:
    return at.isoformat() if at else ""


def _traffic_key(row: ShownTunnel) -> tuple[int, int]:
    return (row.first.traffic.bytes_in, row.first.traffic.bytes_out) if row.first else (-1, -1)


class SortKey(StrEnum):
    """What `--sort` orders by; `-` before it reverses."""

    NAME = "name"
    STATE = "state"
    PEERS = "peers"
    POLICY = "policy"
    SINCE = "since"
    IN = "in"
    OUT = "out"
    REKEYS = "rekeys"
    RESTARTS = "restarts"
    EVIDENCE = "evidence"
    REASON = "reason"


# `state` is worst first, `since`, `in`, `out`, `rekeys` and `restarts` largest or newest first: what an operator looks for.
_KEYS: Mapping[SortKey, Callable[[ShownTunnel], Any]] = {
    SortKey.NAME: lambda row: row.tunnel.name,
    SortKey.STATE: lambda row: WORST_FIRST.index(row.tunnel.state),
    SortKey.PEERS: lambda row: row.tunnel.peers,
    SortKey.POLICY: lambda row: row.policy,
    SortKey.SINCE: lambda row: -row.since.timestamp() if row.since else float("inf"),
    SortKey.IN: lambda row: -_traffic_key(row)[0],
    SortKey.OUT: lambda row: -_traffic_key(row)[1],
    SortKey.REKEYS: lambda row: -(row.first.rekeys if row.first else -1),
    SortKey.RESTARTS: lambda row: -(row.first.restarts if row.first else -1),
    SortKey.EVIDENCE: lambda row: _seen(row.evidence),
    SortKey.REASON: lambda row: (not row.reason, row.reason),
}


def ordered(rows: Sequence[ShownTunnel], keys: str) -> list[ShownTunnel]:
    """The rows by one or several keys, separated by commas; rows that are equal in all are in order of their names.

    Raises SortError.
    """
    found = sorted(rows, key=_KEYS[SortKey.NAME])
    for word in reversed([word.strip() for word in keys.split(",") if word.strip()]):
        name = word.removeprefix("-")
        if name not in list(SortKey):
            raise SortError(f"--sort: `{name}` is not one of {', '.join(SortKey)}")
        found.sort(key=_KEYS[SortKey(name)], reverse=word.startswith("-"))
    return found
