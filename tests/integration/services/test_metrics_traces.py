"""The spans of what agents do, from the change to its first packet, at a receiver of OTLP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from warren_bus.publisher import EventPublisher
from warren_bus.tracing import TraceContext, entered
from warren_contracts import cloudevents, subjects
from warren_contracts.base import Document
from warren_contracts.status import ChildSaStatus, IpsecStatus, TunnelState, TunnelStatus
from warren_contracts.telemetry import Applied, TunnelChange
from warren_testkit.metrics_process import MetricsProcess
from warren_testkit.otlp import Collector, collecting
from warren_testkit.waiting import eventually

NAME = "gw1+hub-1"
EDIT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


@pytest.fixture
def receiver() -> Iterator[tuple[str, Collector]]:
    """Its address, and what it has received."""
    with collecting() as found:
        yield found


@pytest.fixture
def more_settings(receiver: tuple[str, Collector]) -> dict[str, str]:
    """Of the metrics service."""
    variables = {"ENDPOINT": receiver[0], "COMPRESSION": "none"}
    return {f"OTEL_EXPORTER_OTLP_{name}": it for name, it in variables.items()} | {"OTEL_BSP_SCHEDULE_DELAY": "200"}


async def publish(metrics: MetricsProcess, kind: str, body: Document) -> None:
    """Within the trace of the edit, as an agent does."""
    publisher = EventPublisher(lambda: metrics.agents["gw1"].client, "/peers/gw1")
    with entered(EDIT):
        await publisher.publish(subjects.telemetry("gw1", kind), cloudevents.TELEMETRY_TYPES[kind], body)


async def test_an_agents_part_of_a_change_is_below_it_up_to_the_first_packet(
    metrics: MetricsProcess, receiver: tuple[str, Collector]
) -> None:
    begun = datetime(2026, 11, 30, 12, tzinfo=UTC)

    def after(seconds: float) -> datetime:
        return begun + timedelta(seconds=seconds)

    sa = ChildSaStatus(spi_in="00000001", spi_out="00000002", cipher="aes256gcm16", established_at=after(2))
    status = TunnelStatus(
        name=NAME, state=TunnelState.UP, peer="hub-1", since=after(1), link=IpsecStatus(children=(sa,))
    )
    up = TunnelChange(at=after(2), previous=TunnelState.CONNECTING, status=status)
    applied = Applied(at=after(3), epoch=1, revision=7, ok=True, duration_ms=5, delivered_at=begun)
    wrong = applied.model_copy(
        update={"at": datetime(1, 1, 2, tzinfo=UTC), "delivered_at": datetime(1, 1, 2, tzinfo=UTC)}
    )
    await publish(metrics, "applied", applied)
    await publish(metrics, "applied", wrong)  # of a clock that OTLP cannot represent: no other span is lost with it
    await publish(metrics, "tunnel", up)
    await publish(metrics, "tunnel", up.model_copy(update={"previous": TunnelState.UP, "first_packet_at": after(4)}))
    collector = receiver[1]
    names = {"apply policy", "tunnel up", "tunnel first packet"}
    await eventually(lambda: names <= collector.of(EDIT.trace_id).keys(), what="the spans of the agent")
    found = collector.of(EDIT.trace_id)
    for name, first, last in (("apply policy", 0, 3), ("tunnel up", 1, 2), ("tunnel first packet", 2, 4)):
        service, span = found[name]
        assert (service, span.parent_span_id.hex() != "") == ("warren-metrics", True)
        times = [round(it / 1e9 - begun.timestamp()) for it in (span.start_time_unix_nano, span.end_time_unix_nano)]
        assert times == [first, last], name
