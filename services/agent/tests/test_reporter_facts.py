"""What heartbeats say of the agent itself: its revisions, its queue, and when its daemon drifted."""

import json
from datetime import UTC, datetime
from typing import Any

from warren_agent.errors import NotDeliveredError
from warren_agent.host import HostSurvey
from warren_agent.reconciler import ApplyResult
from warren_agent.telemetry.reporter import TelemetryReporter
from warren_contracts.status import HostFacts, ReasonCode
from warren_contracts.telemetry import AgentState, Presence
from warren_contracts.verdicts import is_outdated
from warren_testkit.agent.running import intent

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Unreachable:
    """A bus that stores nothing."""

    async def send(self, message: Any) -> None:
        raise NotDeliveredError("no bus")


def newest_heartbeat(reporter: TelemetryReporter) -> Presence:
    reporter.presence(AgentState.WATCH, ())
    message = reporter.spool._waiting[-1]
    return Presence.model_validate(json.loads(message.payload))


def test_a_heartbeat_has_the_revisions_the_queue_and_the_last_drift() -> None:
    reporter = TelemetryReporter("gw1", "1", Unreachable(), lambda: NOW, survey=HostSurvey((), lambda: 0.0))
    first = newest_heartbeat(reporter)
    assert first.host is not None
    assert (first.host.received_revision, first.host.drifted_at, is_outdated(first.host)) == (0, None, False)
    reporter.applied(intent(3), ApplyResult(), 1.0)
    reporter.applied(intent(4), ApplyResult(daemon_lost="refused"), 1.0)
    reporter.reason("t", ReasonCode.CONFIG_DRIFT, "the child was changed")
    second = newest_heartbeat(reporter)
    assert second.queued == 4  # the heartbeat before it, too
    assert second.host is not None
    assert (second.host.received_revision, second.host.applied_revision, second.host.drifted_at) == (4, 3, NOW)
    assert is_outdated(second.host)
    assert not is_outdated(HostFacts())
    assert not is_outdated(None)
