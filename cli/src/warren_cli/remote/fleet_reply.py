"""What `warren status` reads of the API server's replies: plain objects, checked field by field.

Building the models of `warren_contracts` takes longer than the whole call may.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self, TypeVar

from warren_cli.errors import CliError

T = TypeVar("T")
Json = Mapping[str, Any]


class ReplyError(CliError):
    """A reply has a field that no Warren API server sends: is --url right, and is this command as new as the server?"""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: {' '.join((type(self).__doc__ or '').split())}")


def take(entry: Json, name: str, kind: type[T], default: T) -> T:
    """A field of this kind; `default` where it is absent or null. Raises ReplyError."""
    found = entry.get(name)
    if found is None:
        return default
    if not isinstance(found, kind) or (kind is not bool and isinstance(found, bool)):
        raise ReplyError(name)
    return found


def number(entry: Json, name: str) -> float | None:
    """A number; None where it is absent or null. Raises ReplyError."""
    found = entry.get(name)
    if found is not None and (not isinstance(found, int | float) or isinstance(found, bool)):
        raise ReplyError(name)
    return found


def revision(entry: Json, name: str) -> int | None:
    """A revision; None where it is absent or null. Raises ReplyError."""
    return take(entry, name, int, 0) if entry.get(name) is not None else None


def moment_of(entry: Json, name: str) -> datetime | None:
    """A time with its zone; None where it is absent or null. Raises ReplyError."""
    text = take(entry, name, str, "")
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ReplyError(name) from None
    if found.tzinfo is None:
        raise ReplyError(name)
    return found


def objects(entry: Json, name: str) -> list[dict[str, Any]]:
    """A list of objects. Raises ReplyError."""
    found: list[Any] = take(entry, name, list, [])
    if not all(isinstance(it, dict) for it in found):
        raise ReplyError(name)
    return found


def texts(entry: Json, name: str) -> tuple[str, ...]:
    """A list of texts. Raises ReplyError."""
    found: list[Any] = take(entry, name, list, [])
    if not all(isinstance(it, str) for it in found):
        raise ReplyError(name)
    return tuple(found)


class IdentityUser(NamedTuple):
    """A host that uses the identity of a gateway."""

    name: str
    address: str
    holds_record: bool


class HostState(NamedTuple):
    """What an agent reports of its host and of the intent that it has."""

    intent_unconfirmed_s: float | None
    received_revision: int | None
    applied_revision: int | None
    drifted_at: datetime | None


class ListedDriver(NamedTuple):
    """One driver of a gateway, and the state of its daemon."""

    kind: str
    state: str
    detail: str


class ListedGateway(NamedTuple):
    """A gateway as `GET /api/peers` lists it."""

    peer: str
    tags: tuple[str, ...]
    revoked: bool
    presence: str
    refused: str
    clock_skew_s: float | None
    host: HostState | None
    drivers: tuple[ListedDriver, ...]
    hosts: tuple[IdentityUser, ...]

    @classmethod
    def parse(cls, entry: Json) -> Self:
        host: dict[str, Any] = take(entry, "host", dict, {})
        return cls(
            take(entry, "peer", str, ""), texts(entry, "tags"), take(entry, "revoked", bool, False),
            take(entry, "presence", str, "unknown"), take(entry, "refused", str, ""), number(entry, "clock_skew_s"),
            HostState(
                number(host, "intent_unconfirmed_s"), revision(host, "received_revision"), revision(host, "applied_revision"),
                moment_of(host, "drifted_at"),
            ) if host else None,
            tuple(
                ListedDriver(take(it, "kind", str, ""), take(it, "state", str, "unknown"), take(it, "detail", str, ""))
                for it in objects(entry, "drivers")
            ),
            tuple(
                IdentityUser(take(it, "name", str, ""), take(it, "address", str, ""), take(it, "holds_record", bool, False))
                for it in objects(entry, "hosts")
            ),
        )  # fmt: skip


class ListedTunnelEnd(NamedTuple):
    """What one end reports of a tunnel."""

    reason: str
    detail: str


class ListedTunnel(NamedTuple):
    """A tunnel as `GET /api/tunnels` lists it."""

    name: str
    state: str
    disagreement: str
    peers: tuple[str, ...]
    stale: tuple[str, ...]
    ends: Mapping[str, ListedTunnelEnd]

    @classmethod
    def parse(cls, entry: Json) -> Self:
        ends: dict[str, Any] = take(entry, "ends", dict, {})
        if not all(isinstance(end, dict) for end in ends.values()):
            raise ReplyError("ends")
        return cls(
            take(entry, "name", str, ""), take(entry, "state", str, "unknown"), take(entry, "disagreement", str, ""),
            texts(entry, "peers"), texts(entry, "stale"),
            {
                peer: ListedTunnelEnd(take(end, "reason", str, "none"), take(end, "detail", str, ""))
                for peer, end in ends.items()
            },
        )  # fmt: skip


class ListedPolicy(NamedTuple):
    """A policy as `GET /api/policies` lists it: what was stored last, when, and by whom."""

    id: str
    version: int
    updated_at: datetime | None
    actor: str

    @classmethod
    def parse(cls, entry: Json) -> Self:
        policy: dict[str, Any] = take(entry, "policy", dict, {})
        return cls(
            take(policy, "id", str, ""), take(policy, "version", int, 0), moment_of(entry, "updated_at"),
            take(entry, "actor", str, ""),
        )  # fmt: skip


class ServiceHealth(NamedTuple):
    """What `GET /api/health` says."""

    ready: bool
    dependencies: Mapping[str, bool]
    detail: Mapping[str, str]

    @classmethod
    def parse(cls, entry: Json) -> Self:
        if not isinstance(entry.get("ready"), bool):
            raise ReplyError("ready")
        dependencies: dict[str, Any] = take(entry, "dependencies", dict, {})
        detail: dict[str, Any] = take(entry, "detail", dict, {})
        return cls(
            entry["ready"],
            {name: take(dependencies, name, bool, False) for name in dependencies},
            {name: take(detail, name, str, "") for name in detail},
        )


def newest(policies: Sequence[ListedPolicy]) -> tuple[ListedPolicy, datetime] | None:
    """The policy that was stored last, and when."""
    dated = [(it, it.updated_at) for it in policies if it.updated_at is not None]
    return max(dated, key=lambda pair: pair[1], default=None)
