"""All subjects on the bus, and the readers, which are one token of a subject.

A *reader* is `all`, `tag=<tag>` or `peer=<id>`: exactly one token, so that permissions are one loop over readers.
"""

from typing import Annotated, NamedTuple

from pydantic import StringConstraints

from warren_contracts.names import is_name

READER_PATTERN = r"^(all|(tag|peer)=[a-z0-9_-]{1,63})$"
Audience = Annotated[str, StringConstraints(pattern=READER_PATTERN)]

ALL: Audience = "all"

VERSION = "warren.v1"
LIVE = "live."  # prefix of republished stream messages, in the account of the services

# nats-server checks no permission of a reply subject, but accepts none that begins with `$JS.ACK.` from a client. So what AGENTS
# and OPS import is below it: no peer can direct a reply to the subscribers of a live subject, nor an operator to those of events.
UNREPLIABLE = "$JS.ACK"
LIVE_OF_CLIENTS = f"{UNREPLIABLE}.{LIVE}"

POLICY_STREAM = "POLICY"
DIRECTORY_STREAM = "DIRECTORY"
SECRET_STREAM = "SECRET"  # noqa: S105 - the name of a stream
EVENT_STREAM = "EVENT"
TELEMETRY_STREAM = "TELEMETRY"
PRESENCE_STREAM = "PRESENCE"  # heartbeats: only the newest message matters


class TelemetrySubject(NamedTuple):
    """Sender and kind of a telemetry message; both are part of the subject, never of the payload."""

    peer: str
    kind: str


def _checked(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"invalid name {name!r}: 1 to 63 characters of a-z, 0-9, _ and -")
    return name


def tag_reader(tag: str) -> Audience:
    return f"tag={_checked(tag)}"


def peer_reader(peer: str) -> Audience:
    return f"peer={_checked(peer)}"


def named_peer(reader: Audience) -> str | None:
    """The id of the one peer that a reader `peer=<id>` is; None for tags and `all`."""
    return reader.removeprefix("peer=") if reader.startswith("peer=") else None


def readers_of(peer: str, tags: tuple[str, ...]) -> tuple[Audience, ...]:
    """The readers of a peer: `all`, itself, and its tags."""
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
    """The sender and the kind of a telemetry subject; raises ValueError for any other subject."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[:3] != ["warren", "v1", "telemetry"]:
        raise ValueError(f"not a telemetry subject: {subject!r}")
    return TelemetrySubject(_checked(tokens[3]), tokens[4])


def rpc_of_operators(service: str, verb: str) -> str:
    """Subject at which calls of `rpc(service, verb)` from the account OPS arrive, apart from calls of services."""
    return f"{VERSION}.ops.{service}.{verb}"


def rpc_agent(peer: str, verb: str) -> str:
    """A call by an agent; `Nats-Request-Info` identifies the caller."""
    return f"{VERSION}.rpc.agent.{_checked(peer)}.{verb}"


def rpc_enrol(nkey: str) -> str:
    return f"{VERSION}.rpc.enrol.{nkey}"


def rpc(service: str, verb: str) -> str:
    """A call of a service by a service or a system: `warren.v1.rpc.policy.apply`."""
    return f"{VERSION}.rpc.{service}.{verb}"


def live(subject: str) -> str:
    """Where an agent, an operator or another system receives what a stream republishes."""
    return LIVE_OF_CLIENTS + subject


def republished(subject: str) -> str:
    """Where a service receives what a stream republishes."""
    return LIVE + subject


# By the third token of a subject: which of the following ones name one peer, reader or thing.
_PLACES = {
    "telemetry": {3: "{peer}"}, "policy": {3: "{reader}"}, "digest": {3: "{reader}"}, "secret": {3: "{peer}"},
    "directory": {3: "{reader}", 4: "{peer}"}, "event": {5: "{name}"},
}  # fmt: skip


def template(subject: str) -> str:
    """A subject with placeholders for what identifies one peer, reader or thing: `warren.v1.telemetry.{peer}.report`.

    There are few of them, so that they can name spans (OpenTelemetry's messaging conventions, "Span name") and stand in logs.
    """
    tokens = subject.split(".")[:6]
    if tokens[:2] != VERSION.split("."):
        return ".".join(tokens[:3])
    places = _PLACES.get(tokens[2], {}) if len(tokens) > 2 else {}
    if tokens[2:4] in (["rpc", "agent"], ["rpc", "enrol"]):
        places = {4: "{peer}" if tokens[3] == "agent" else "{key}"}
    return ".".join(places.get(at, token) for at, token in enumerate(tokens))
