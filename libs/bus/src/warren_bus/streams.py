"""The five streams: their owner declares them, idempotently; everybody else waits for them."""

import asyncio
from dataclasses import dataclass

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RePublish, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError

from warren_contracts import subjects

log = structlog.get_logger("warren_bus")

DAY = 24 * 3600.0  # s
WAIT_STEP = 0.5  # s between two looks for a stream that is not there yet
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


_V = subjects.VERSION
POLICY = StreamSpec(subjects.POLICY_STREAM, "policy", (f"{_V}.policy.>",), state=True)
DIRECTORY = StreamSpec(subjects.DIRECTORY_STREAM, "registry", (f"{_V}.directory.>", f"{_V}.digest.>"), state=True)
SECRET = StreamSpec(subjects.SECRET_STREAM, "registry", (f"{_V}.secret.>",), state=True)
EVENT = StreamSpec(
    subjects.EVENT_STREAM, "policy", (f"{_V}.event.>",), state=False, max_age=30 * DAY, max_bytes=1 << 30
)
TELEMETRY = StreamSpec(
    subjects.TELEMETRY_STREAM, "metrics", (f"{_V}.telemetry.>",), state=False, max_age=DAY, max_bytes=2 << 30
)
STREAMS = {spec.name: spec for spec in (POLICY, DIRECTORY, SECRET, EVENT, TELEMETRY)}


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
    return config.evolve(max_age=spec.max_age, max_bytes=spec.max_bytes)


async def declare(js: JetStreamContext, spec: StreamSpec, replicas: int = 1) -> None:
    """Create the stream, or bring it to this configuration. Waits while JetStream is not ready."""
    config = stream_config(spec, replicas)
    while True:
        try:
            await js.add_stream(config)
            return
        except BadRequestError as error:
            if error.err_code != 10058:  # JSStreamNameExistErr: there is one with another configuration
                raise
            await js.update_stream(config)
            return
        except APIError as error:
            if error.code != 503:  # no leader yet, storage not ready
                raise
        except (NatsError, TimeoutError):  # the server is starting
            await asyncio.sleep(0)
        await asyncio.sleep(WAIT_STEP)


async def wait_for(js: JetStreamContext, name: str) -> None:
    """Return as soon as the stream exists, however long its owner takes."""
    told = False
    while True:
        try:
            await js.stream_info(name)
            return
        except (NatsError, TimeoutError) as error:  # not declared yet, or the server is away
            if not told:
                told = True
                log.info("bus.waiting_for_stream", stream=name, reason=str(error) or type(error).__name__)
            await asyncio.sleep(WAIT_STEP)
