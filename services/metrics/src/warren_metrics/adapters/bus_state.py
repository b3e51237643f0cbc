"""What the bus holds, as gauges: streams, consumers, and when certificates expire."""

import ssl
from collections.abc import Callable
from datetime import datetime

from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Gauge

from warren_contracts.subjects import EVENT_STREAM, POLICY_STREAM, PRESENCE_STREAM, TELEMETRY_STREAM

STREAMS = (POLICY_STREAM, EVENT_STREAM, TELEMETRY_STREAM, PRESENCE_STREAM)
INTERVAL = 15.0  # s between two looks


class BusState:
    """Gauges of the streams, of this service's consumers, and of certificates."""

    def __init__(
        self, client: Callable[[], Client], consumers: dict[str, str], registry: CollectorRegistry,
        listener_expires: Callable[[], datetime] | None,
    ) -> None:  # fmt: skip
        self._client = client
        self._consumers = consumers  # stream by consumer
        self._listener_expires = listener_expires
        self._messages = Gauge("warren_stream_messages", "Messages in a stream.", ["stream"], registry=registry)
        self._bytes = Gauge("warren_stream_bytes", "Bytes of a stream.", ["stream"], registry=registry)
        self._pending = Gauge(
            "warren_consumer_pending_messages", "Messages that wait for a consumer of the metrics service.",
            ["stream", "consumer"], registry=registry,
        )  # fmt: skip
        self._expires = Gauge(
            "warren_certificate_expiry_timestamp_seconds",
            "Unix time at which a certificate expires: `bus` of the NATS server, `metrics` of this listener.", ["use"],
            registry=registry,
        )  # fmt: skip

    async def look(self) -> None:
        """Read everything once. Raises what nats-py raises while the bus or JetStream is unavailable."""
        client = self._client()
        if self._listener_expires is not None:
            self._expires.labels("metrics").set(self._listener_expires().timestamp())
        if (expires := _bus_certificate_expires(client)) is not None:
            self._expires.labels("bus").set(expires)
        js = client.jetstream()
        for name in STREAMS:
            state = (await js.stream_info(name)).state
            self._messages.labels(name).set(state.messages)
            self._bytes.labels(name).set(state.bytes)
        for consumer, stream in self._consumers.items():
            info = await js.consumer_info(stream, consumer)
            self._pending.labels(stream, consumer).set(info.num_pending or 0)


def _bus_certificate_expires(client: Client) -> float | None:
    """Unix time of the end of the server's certificate; None without TLS."""
    writer = getattr(client._transport, "_io_writer", None)  # nats-py has no accessor
    encrypted = None if writer is None else writer.get_extra_info("ssl_object")
    found = None if encrypted is None else encrypted.getpeercert()
    return ssl.cert_time_to_seconds(str(found["notAfter"])) if found else None
