"""The six streams: their owner declares them, idempotently; everybody else waits for them."""

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
WAIT_STEP = 0.5  # s between two looks for a stream that is not there yet
SUBJECTS_OVERLAP = 10065  # err_code: another stream has one of these subjects
UNAVAILABLE = 503  # code: no leader yet, storage not ready
DUPLICATE_WINDOW = 120.0  # s in which an id is recognised; retries of the publisher end long before


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What a stream keeps, and which service declares it."""

    name: str
    owner: str
    subjects: tuple[str, ...]
    state: bool  # True: the newest message a subject, republished under `live.`; False: everything, by age and size
    max_age: float = 0.0  # s
    max_bytes: int = -1
    max_of_subject: int = -1  # messages; the oldest of the same subject gives way
    max_message: int = -1  # bytes, with headers


_V = subjects.VERSION
POLICY = StreamSpec(subjects.POLICY_STREAM, "policy", (f"{_V}.policy.>",), state=True)
DIRECTORY = StreamSpec(subjects.DIRECTORY_STREAM, "registry", (f"{_V}.directory.>", f"{_V}.digest.>"), state=True)
SECRET = StreamSpec(subjects.SECRET_STREAM, "registry", (f"{_V}.secret.>",), state=True)
EVENT = StreamSpec(
    subjects.EVENT_STREAM, "policy", (f"{_V}.event.>",), state=False, max_age=30 * DAY, max_bytes=1 << 30
)

# What one peer can have in TELEMETRY: its four kinds, 512 messages of 128 kB each, 256 MiB of 2 GiB. An honest gateway is
# far below: 512 are its reports of an hour, or both changes of 250 tunnels at once while metrics is unavailable (what is lost then
# of single changes, the next report tells).
TELEMETRY = StreamSpec(
    subjects.TELEMETRY_STREAM, "metrics", tuple(f"{_V}.telemetry.*.{kind}" for kind in telemetry.STORED_KINDS), state=False,
    max_age=DAY, max_bytes=2 << 30, max_of_subject=512, max_message=telemetry.MAX_TELEMETRY,
)  # fmt: skip
# Heartbeats apart from the rest: no flood of reports stands before them, and a peer has one message of 8 kB here.
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
    """Create the stream, or bring it to this configuration. Waits while JetStream is not ready, and while an older stream
    has not given its subjects up yet. Raises APIError when the server will not have the stream at all."""
    config = stream_config(spec, replicas)
    told = False
    while True:
        try:
            await _create_or_update(js, config)
            return
        except APIError as error:
            if error.err_code == SUBJECTS_OVERLAP:
                if not told:
                    told = True
                    log.warning("bus.stream_subjects_taken", stream=spec.name, reason=error.description)
            elif error.code != UNAVAILABLE:
                raise
        except (NatsError, TimeoutError):  # the server is starting
            await asyncio.sleep(0)
        await asyncio.sleep(WAIT_STEP)


async def _create_or_update(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except APIError as error:
        if _passes(error):
            raise
        await _update(js, config, error)


async def _update(js: JetStreamContext, config: StreamConfig, refused: APIError) -> None:
    """Some things of a stream cannot be changed (its storage; several replicas want several servers). Then it stays as it
    is, and works as it did: better that than a service that does not start; the log says so. Raises `refused` when there is
    no such stream."""
    try:
        await js.update_stream(config)
    except NotFoundError:
        raise refused from None
    except APIError as error:
        if _passes(error):
            raise
        log.error(
            "bus.stream_not_updated", stream=config.name, reason=error.description,
            remedy="the stream keeps its old configuration: see docs/bus.md, Streams",
        )  # fmt: skip


def _passes(error: APIError) -> bool:
    """Whether waiting helps."""
    return error.code == UNAVAILABLE or error.err_code == SUBJECTS_OVERLAP


async def wait_for(js: JetStreamContext, name: str) -> None:
    """Return as soon as the stream exists, however long its owner takes. ConnectionClosedError: this client never returns."""
    told = False
    while True:
        try:
            await js.stream_info(name)
            return
        except ConnectionClosedError:
            raise
        except (NatsError, TimeoutError) as error:  # not declared yet, or the server is unavailable
            if not told:
                told = True
                log.info("bus.waiting_for_stream", stream=name, reason=str(error) or type(error).__name__)
            await asyncio.sleep(WAIT_STEP)
