"""The six streams: their owner declares them, idempotently; other services wait for them."""

import asyncio
from dataclasses import dataclass

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
    """What a stream stores, and which service declares it."""

    name: str
    owner: str
    subjects: tuple[str, ...]
    state: bool  # True: the newest message per subject, republished under `live.`; False: all messages, by age and size
    max_age: float = 0.0  # s
    max_bytes: int = -1
    max_of_subject: int = -1  # messages; the oldest of the same subject is dropped
    max_message: int = -1  # bytes, with headers


_V = subjects.VERSION
POLICY = StreamSpec(subjects.POLICY_STREAM, "policy", (f"{_V}.policy.>",), state=True)
DIRECTORY = StreamSpec(subjects.DIRECTORY_STREAM, "registry", (f"{_V}.directory.>", f"{_V}.digest.>"), state=True)
SECRET = StreamSpec(subjects.SECRET_STREAM, "registry", (f"{_V}.secret.>",), state=True)
EVENT = StreamSpec(
    subjects.EVENT_STREAM, "policy", (f"{_V}.event.>",), state=False, max_age=30 * DAY, max_bytes=1 << 30
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
# In the order in which an owner declares them: TELEMETRY gives up the subjects of an earlier version before PRESENCE takes
# them (NATS allows no subject in two streams).
STREAMS = {spec.name: spec for spec in (POLICY, DIRECTORY, SECRET, EVENT, TELEMETRY, PRESENCE)}


def stream_config(spec: StreamSpec, replicas: int = 1) -> StreamConfig:
    """The configuration of a stream.

    State streams allow atomic batches and Direct Get, and forbid purges (a withdrawal is a message: a purge is not
    republished). The others allow neither batches nor roll-ups, so that such headers from agents are refused.
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
            republish=RePublish(src=f"{_V}.>", dest=f"{subjects.LIVE}{_V}.>"),
        )
    return config.evolve(
        max_age=spec.max_age, max_bytes=spec.max_bytes, max_msgs_per_subject=spec.max_of_subject,
        max_msg_size=spec.max_message,
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
