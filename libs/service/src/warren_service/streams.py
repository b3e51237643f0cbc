"""The six streams. One bus user declares and repairs them (`warren_stack.streams`); services wait for them.

A stream decides which subjects are stored and where messages are published again, so the right to change one is the right to read
and to publish everything in the account.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

import structlog
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RePublish, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from warren_contracts import subjects, telemetry

log = structlog.get_logger("warren_bus")

DAY = 24 * 3600.0  # s
WAIT_STEP = 0.5  # s between two checks for a stream that does not exist yet
SUBJECTS_OVERLAP = 10065  # err_code: another stream has one of these subjects
NO_SUITABLE_PEERS = 10005  # err_code: fewer servers of the cluster are connected than the stream has replicas
UNAVAILABLE = 503  # code: no leader yet, storage not ready
WAITS = {SUBJECTS_OVERLAP: "bus.stream_subjects_taken", NO_SUITABLE_PEERS: "bus.stream_waits_for_servers"}
DUPLICATE_WINDOW = 120.0  # s in which an id is recognised; retries of the publisher end long before


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What a stream stores, and which service publishes to it or, of telemetry, reads it."""

    name: str
    owner: str
    subjects: tuple[str, ...]
    state: bool  # True: the newest message per subject, republished under `live.`; False: all messages, by age and size
    max_age: float = 0.0  # s
    max_bytes: int = -1
    max_of_subject: int = -1  # messages; the oldest of the same subject is dropped
    max_message: int = -1  # bytes, with headers
    followed: bool = False  # not of state: read by sequence with Direct Get, and republished under `live.`


_V = subjects.VERSION
_REPUBLISH = RePublish(src=f"{_V}.>", dest=f"{subjects.LIVE}{_V}.>")
POLICY = StreamSpec(subjects.POLICY_STREAM, "policy", (f"{_V}.policy.>",), state=True)
DIRECTORY = StreamSpec(subjects.DIRECTORY_STREAM, "registry", (f"{_V}.directory.>", f"{_V}.digest.>"), state=True)
SECRET = StreamSpec(subjects.SECRET_STREAM, "registry", (f"{_V}.secret.>",), state=True)
EVENT = StreamSpec(
    subjects.EVENT_STREAM, "policy", (f"{_V}.event.>",), state=False, max_age=30 * DAY, max_bytes=1 << 30, followed=True
)

# One peer's limit in TELEMETRY: its four kinds, 512 messages of 128 kB each, 256 MiB of 2 GiB. A regular gateway stays far below:
# 512 are its reports of an hour, or both changes of 250 tunnels at once while metrics is unavailable (the next report repeats what
# is dropped then of single changes).
TELEMETRY = StreamSpec(
    subjects.TELEMETRY_STREAM, "metrics", tuple(f"{_V}.telemetry.*.{kind}" for kind in telemetry.STORED_KINDS), state=False,
    max_age=DAY, max_bytes=2 << 30, max_of_subject=512, max_message=telemetry.MAX_TELEMETRY,
)  # fmt: skip
# Heartbeats have their own stream: a flood of reports does not delay them, and a peer has one message of 8 kB here.
PRESENCE = StreamSpec(
    subjects.PRESENCE_STREAM, "metrics", (f"{_V}.telemetry.*.{telemetry.PRESENCE}",), state=False,
    max_age=DAY, max_bytes=256 << 20, max_of_subject=1, max_message=telemetry.MAX_PRESENCE,
)  # fmt: skip
# In the order in which they are declared: TELEMETRY gives up the subjects of an earlier version before PRESENCE takes
# them (NATS allows no subject in two streams).
STREAMS = {spec.name: spec for spec in (POLICY, DIRECTORY, SECRET, EVENT, TELEMETRY, PRESENCE)}


def stream_config(spec: StreamSpec, replicas: int = 1) -> StreamConfig:
    """The configuration of a stream.

    State streams allow atomic batches and Direct Get, and forbid purges (a withdrawal is a message: a purge is not
    republished). EVENT is republished, and read by sequence. The others allow neither batches nor roll-ups, so that such headers
    from agents are refused.
    """
    config = StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        num_replicas=replicas,
        duplicate_window=DUPLICATE_WINDOW,
    )
    if spec.state:
        return config.evolve(
            max_msgs_per_subject=1,
            allow_direct=True,
            allow_atomic=True,
            deny_purge=True,
            deny_delete=True,
            republish=_REPUBLISH,
        )
    return config.evolve(
        max_age=spec.max_age, max_bytes=spec.max_bytes, max_msgs_per_subject=spec.max_of_subject,
        max_msg_size=spec.max_message, allow_direct=spec.followed, republish=_REPUBLISH if spec.followed else None,
    )  # fmt: skip


async def declare(js: JetStreamContext, spec: StreamSpec, replicas: int = 1) -> None:
    """Create the stream, or update it to this configuration.

    Waits while JetStream is not ready, while the cluster has fewer servers than replicas, and while an older stream still has its
    subjects. Raises APIError when the server refuses.
    """
    config = stream_config(spec, replicas)
    logged: set[int | None] = set()
    while True:
        try:
            await _create_or_update(js, config)
            return
        except APIError as error:
            if not _is_temporary(error):
                raise
            if error.err_code in WAITS and error.err_code not in logged:
                logged.add(error.err_code)
                log.warning(WAITS[error.err_code], stream=spec.name, error=error.description)
        except (NatsError, TimeoutError):  # the server is starting
            await asyncio.sleep(0)
        await asyncio.sleep(WAIT_STEP)


async def _create_or_update(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except APIError as error:
        if _is_temporary(error):
            raise
        await _update(js, config, error)


async def _update(js: JetStreamContext, config: StreamConfig, refused: APIError) -> None:
    """Update an existing stream; raises `refused` when it does not exist.

    Some properties cannot be changed (its storage; several replicas require several servers). Then it keeps its configuration and
    the log says so: the service must start nevertheless.
    """
    try:
        await js.update_stream(config)
    except NotFoundError:
        raise refused from None
    except APIError as error:
        if _is_temporary(error):
            raise
        log.error(
            "bus.stream_not_updated", stream=config.name, error=error.description,
            remedy="the stream keeps its old configuration: see docs/bus.md, Streams",
        )  # fmt: skip


def _is_temporary(error: APIError) -> bool:
    """Whether the error ends by itself."""
    return error.code == UNAVAILABLE or error.err_code in WAITS


# Written by the server only, or without influence on what is stored and where it is sent.
_NOT_COMPARED = frozenset({"metadata", "description", "placement", "num_replicas"})


def deviations(actual: StreamConfig, wanted: StreamConfig) -> tuple[str, ...]:
    """The names of the fields in which a stream differs from its specification, sorted.

    A field that the specification leaves open must be empty or the server's default for "no limit": an additional `sources`,
    `republish` or `subject_transform` is a deviation.
    """
    return tuple(
        sorted(
            item.name
            for item in fields(StreamConfig)
            if item.name not in _NOT_COMPARED
            and _plain(getattr(actual, item.name)) != _plain(getattr(wanted, item.name))
        )
    )


_UNSET = (None, "", 0, -1, False, "none", "default")


def _plain(value: Any) -> Any:
    """A value of a configuration in a form that compares: the server and the client write "not set" in several ways."""
    if isinstance(value, Enum):
        value = value.value
    elif hasattr(value, "as_dict"):
        value = value.as_dict()
    if isinstance(value, Mapping):
        value = {key: plain for key, inner in value.items() if (plain := _plain(inner)) is not None}
    if isinstance(value, list | tuple):
        value = [_plain(item) for item in value]
    return None if value in _UNSET or not value else value


async def wait_for(js: JetStreamContext, name: str) -> None:
    """Wait until the stream exists. Raises ConnectionClosedError when the client is closed for good."""
    logged = False
    while True:
        try:
            await js.stream_info(name)
            return
        except ConnectionClosedError:
            raise
        except (NatsError, TimeoutError) as error:  # not declared yet, or the server is unavailable
            if not logged:
                logged = True
                log.info("bus.waiting_for_stream", stream=name, error=str(error) or type(error).__name__)
            await asyncio.sleep(WAIT_STEP)
