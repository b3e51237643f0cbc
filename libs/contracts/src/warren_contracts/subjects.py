"""Every subject on the bus, and the readers that are one token of them.

A *reader* is `all`, `tag=<tag>` or `peer=<id>`: exactly one token, so that permissions are one loop over readers.
"""

from typing import Annotated, NamedTuple

from pydantic import StringConstraints

from warren_contracts.names import is_name

READER_PATTERN = r"^(all|(tag|peer)=[a-z0-9_-]{1,63})$"
Audience = Annotated[str, StringConstraints(pattern=READER_PATTERN)]

ALL: Audience = "all"

VERSION = "warren.v1"
LIVE = "live."  # the prefix under which streams republish what they stored

POLICY_STREAM = "POLICY"
DIRECTORY_STREAM = "DIRECTORY"
SECRET_STREAM = "SECRET"  # noqa: S105 - the name of a stream
EVENT_STREAM = "EVENT"
TELEMETRY_STREAM = "TELEMETRY"
PRESENCE_STREAM = "PRESENCE"  # heartbeats: telemetry whose newest message says it all


class TelemetrySubject(NamedTuple):
    """Who sent a telemetry message (the subject says it, never the payload) and of which kind it is."""

    peer: str
    kind: str


def _checked(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name!r} is no name: use 1 to 63 of a-z, 0-9, _ and -")
    return name


def tag_reader(tag: str) -> Audience:
    return f"tag={_checked(tag)}"


def peer_reader(peer: str) -> Audience:
    return f"peer={_checked(peer)}"


def readers_of(peer: str, tags: tuple[str, ...]) -> tuple[Audience, ...]:
    """What a peer reads: everything for all, for itself, and for its own tags."""
    return (ALL, peer_reader(peer), *(tag_reader(tag) for tag in sorted(set(tags))))


def policy(reader: Audience) -> str:
    return f"{VERSION}.policy.{reader}"


def directory(reader: Audience, peer: str) -> str:
    return f"{VERSION}.directory.{reader}.{_checked(peer)}"


def digest(reader: Audience) -> str:
    return f"{VERSION}.digest.{reader}"


def secret(peer: str) -> str:
    return f"{VERSION}.secret.{_checked(peer)}"


def event(source: str, kind: str, name: str) -> str:
    """An event of a service: `warren.v1.event.policy.changed.branches`."""
    return f"{VERSION}.event.{source}.{kind}.{name}"


def telemetry(peer: str, kind: str) -> str:
    return f"{VERSION}.telemetry.{_checked(peer)}.{kind}"


def parse_telemetry(subject: str) -> TelemetrySubject:
    """The sender and the kind of a telemetry subject; ValueError when it is none."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[:3] != ["warren", "v1", "telemetry"]:
        raise ValueError(f"{subject!r} is no telemetry subject")
    return TelemetrySubject(_checked(tokens[3]), tokens[4])


def rpc_of_operators(service: str, verb: str) -> str:
    """Where a call of `rpc(service, verb)` from the account OPS arrives: never where calls of services do."""
    return f"{VERSION}.ops.{service}.{verb}"


def rpc_agent(peer: str, verb: str) -> str:
    """A call by an agent; `Nats-Request-Info` proves who called."""
    return f"{VERSION}.rpc.agent.{_checked(peer)}.{verb}"


def rpc_enrol(nkey: str) -> str:
    return f"{VERSION}.rpc.enrol.{nkey}"


def rpc(service: str, verb: str) -> str:
    """A call of a service by a service or a system: `warren.v1.rpc.policy.apply`."""
    return f"{VERSION}.rpc.{service}.{verb}"


def live(subject: str) -> str:
    return LIVE + subject
