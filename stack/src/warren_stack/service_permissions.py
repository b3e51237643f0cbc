"""Permissions of the services inside CTRL, each with its reason, which is a comment in the server's file.

A table: which service may publish and subscribe to which subjects. Everything else is denied.
"""

from typing import NamedTuple

from warren_contracts.subjects import (
    DIRECTORY_STREAM,
    EVENT_STREAM,
    POLICY_STREAM,
    PRESENCE_STREAM,
    SECRET_STREAM,
    TELEMETRY_STREAM,
)
from warren_contracts.telemetry import PRESENCE, STORED_KINDS

_API = "$JS.API"
_V = "warren.v1"


class Right(NamedTuple):
    """One subject and why it is needed."""

    subject: str
    reason: str


class ServiceRights(NamedTuple):
    """The permissions of one service's bus user."""

    publish: tuple[Right, ...]
    subscribe: tuple[Right, ...]
    responds: bool  # may answer the requests that it receives, once each


def consumers_of(service: str, stream: str) -> tuple[str, ...]:
    """The names of durable consumers that a service may have: on TELEMETRY its own name, or one for each kind there."""
    if stream == PRESENCE_STREAM:
        return (f"{service}-{PRESENCE}",)
    return (service, *(f"{service}-{kind}" for kind in STORED_KINDS))


def _declares(stream: str) -> tuple[Right, ...]:
    return (
        Right(f"{_API}.STREAM.CREATE.{stream}", f"declares {stream}"),
        Right(f"{_API}.STREAM.UPDATE.{stream}", f"repairs {stream}"),
        Right(f"{_API}.STREAM.INFO.{stream}", f"compares the configuration of {stream}"),
    )


def _waits_for(stream: str) -> Right:
    return Right(f"{_API}.STREAM.INFO.{stream}", f"waits until {stream} is declared, and reads its state")


def _reads_back(stream: str) -> tuple[Right, ...]:
    why = "the relay compares stored documents with its own"
    return (
        Right(f"{_API}.DIRECT.GET.{stream}", why + " (several subjects at once)"),
        Right(f"{_API}.DIRECT.GET.{stream}.>", why),
    )


def _consumes(service: str, stream: str) -> tuple[Right, ...]:
    rights = []
    for name in consumers_of(service, stream):
        at = f"{stream}.{name}"
        rights += [
            Right(f"{_API}.CONSUMER.CREATE.{at}", "creates its own durable pull consumer"),
            Right(f"{_API}.CONSUMER.CREATE.{at}.>", "creates it with a filter"),
            Right(f"{_API}.CONSUMER.INFO.{at}", "checks that its consumer still exists"),
            Right(f"{_API}.CONSUMER.MSG.NEXT.{at}", "pulls batches"),
            Right(f"$JS.ACK.{at}.>", "acknowledges them"),
        ]
    rights.append(Right(f"{_API}.STREAM.MSG.GET.{stream}", "fetches a dead letter by its sequence"))
    return tuple(rights)


def _dead_letters(service: str, stream: str) -> tuple[Right, ...]:
    advisory = "$JS.EVENT.ADVISORY.CONSUMER"
    return tuple(
        Right(f"{advisory}.{kind}.{stream}.{name}", "receives notice of dead letters")
        for name in consumers_of(service, stream)
        for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
    )


def _inbox(service: str) -> Right:
    return Right(f"_INBOX.{service}.>", "replies to its own requests")


def _serves(service: str) -> Right:
    return Right(f"{_V}.rpc.{service}.>", "serves its RPC")


def _serves_operators(service: str) -> Right:
    return Right(f"{_V}.ops.{service}.*", "serves operators, whose calls arrive apart from those of services")


REGISTRY = ServiceRights(
    publish=(
        Right(f"{_V}.directory.>", "publishes records"),
        Right(f"{_V}.digest.>", "publishes digests"),
        Right(f"{_V}.secret.>", "publishes sealed bundles"),
        Right(f"{_V}.event.registry.>", "publishes its events"),
        Right(f"{_V}.rpc.policy.follow_epoch", "announces a new epoch to the policy service"),
        _waits_for(DIRECTORY_STREAM),
        _waits_for(SECRET_STREAM),
        *_reads_back(DIRECTORY_STREAM),
        *_reads_back(SECRET_STREAM),
        _waits_for(POLICY_STREAM),
        Right(f"{_API}.DIRECT.GET.{POLICY_STREAM}", "reads the policies (several at once)"),
        Right(f"{_API}.DIRECT.GET.{POLICY_STREAM}.>", "reads the policies"),
        _waits_for(EVENT_STREAM),
        _waits_for(PRESENCE_STREAM),
        *_consumes("registry", PRESENCE_STREAM),
        Right("$SYS.REQ.SERVER.*.KICK", "closes the connections of a revoked or retagged peer"),
        Right("$SYS.REQ.SERVER.PING.CONNZ", "finds every connection of a peer"),
    ),
    subscribe=(
        _inbox("registry"),
        Right(f"{_V}.rpc.agent.>", "serves the agents' RPC"),
        Right(f"{_V}.rpc.enrol.*", "serves enrolment"),
        _serves("registry"),
        _serves_operators("registry"),
        Right(f"live.{_V}.policy.>", "follows the policies"),
        Right("sys.$SYS.ACCOUNT.AGENTS.*", "receives connects and disconnects at once"),
        *_dead_letters("registry", PRESENCE_STREAM),
    ),
    responds=True,
)

POLICY = ServiceRights(
    publish=(
        Right(f"{_V}.policy.>", "publishes policy sets"),
        Right(f"{_V}.event.policy.>", "publishes its events"),
        Right(f"{_V}.rpc.registry.directory", "checks policies against the directory"),
        _waits_for(POLICY_STREAM),
        _waits_for(EVENT_STREAM),
        *_reads_back(POLICY_STREAM),
        Right(f"{_API}.DIRECT.GET.{EVENT_STREAM}", "reads stored events for operators"),
    ),
    subscribe=(
        _inbox("policy"),
        _serves("policy"),
        _serves_operators("policy"),
    ),
    responds=True,
)

METRICS = ServiceRights(
    publish=(
        Right(f"{_V}.event.metrics.>", "publishes its events"),
        Right(f"{_V}.rpc.registry.directory", "reads the tags of all peers, by which a policy has members"),
        _waits_for(POLICY_STREAM),
        Right(f"{_API}.DIRECT.GET.{POLICY_STREAM}.>", "reads whose the explicit tunnels are"),
        _waits_for(TELEMETRY_STREAM),
        _waits_for(PRESENCE_STREAM),
        _waits_for(EVENT_STREAM),
        Right(f"{_API}.DIRECT.GET.{EVENT_STREAM}", "reads the events that the history is made of"),
        *_consumes("metrics", TELEMETRY_STREAM),
        *_consumes("metrics", PRESENCE_STREAM),
    ),
    subscribe=(
        _inbox("metrics"),
        Right(f"live.{_V}.policy.>", "follows the policies"),
        _serves("metrics"),
        _serves_operators("metrics"),
        Right(f"{_V}.event.registry.enrolled.*", "reads the directory again"),
        Right(f"{_V}.event.registry.retagged.*", "reads the directory again"),
        Right(f"{_V}.event.registry.revoked.*", "removes a revoked peer and its tunnels"),
        Right(f"{_V}.event.policy.changed.*", "measures how long a change takes to reach the gateways"),
        *_dead_letters("metrics", TELEMETRY_STREAM),
        *_dead_letters("metrics", PRESENCE_STREAM),
    ),
    responds=True,
)

API = ServiceRights(
    publish=(
        Right(f"{_V}.rpc.policy.>", "calls policy"),
        Right(f"{_V}.rpc.registry.>", "calls the registry"),
        Right(f"{_V}.rpc.metrics.>", "calls metrics"),
        _waits_for(EVENT_STREAM),
        Right(f"{_API}.CONSUMER.CREATE.{EVENT_STREAM}", "creates ordered consumers to replay events"),
        Right(f"{_API}.CONSUMER.CREATE.{EVENT_STREAM}.>", "creates named ephemeral consumers, with filters"),
        Right(f"{_API}.CONSUMER.INFO.{EVENT_STREAM}.*", "checks them"),
        Right(f"{_API}.CONSUMER.DELETE.{EVENT_STREAM}.*", "removes them when a listener leaves"),
        Right(f"{_API}.CONSUMER.MSG.NEXT.{EVENT_STREAM}.*", "pulls from them"),
        Right(f"$JS.ACK.{EVENT_STREAM}.>", "acknowledges pulled events"),
        Right(f"$JS.FC.{EVENT_STREAM}.>", "answers the flow control of ordered consumers"),
    ),
    subscribe=(
        _inbox("api"),
        Right(f"live.{_V}.policy.>", "shows policies as they change"),
        Right(f"live.{_V}.directory.>", "shows peers as they change"),
        Right(f"live.{_V}.digest.>", "shows the state of readers"),
    ),
    responds=False,
)

ALL_STREAMS = (POLICY_STREAM, DIRECTORY_STREAM, SECRET_STREAM, EVENT_STREAM, TELEMETRY_STREAM, PRESENCE_STREAM)

# The only user that may change a stream. A user that can do that can read every inbox (by one more subject) and publish on any
# subject (by `republish` or `sources`), so no service that serves requests has this right.
STREAM_KEEPER = ServiceRights(
    publish=tuple(right for stream in ALL_STREAMS for right in _declares(stream)),
    subscribe=(
        _inbox("streams"),
        *(
            Right(f"$JS.EVENT.ADVISORY.STREAM.{action}.{stream}", "receives notice of a changed stream")
            for action in ("CREATED", "UPDATED", "DELETED")
            for stream in ALL_STREAMS
        ),
    ),
    responds=False,
)

SERVICES: dict[str, ServiceRights] = {
    "registry": REGISTRY,
    "policy": POLICY,
    "metrics": METRICS,
    "api": API,
    "streams": STREAM_KEEPER,
}
