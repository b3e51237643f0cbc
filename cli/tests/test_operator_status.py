"""`warren status` against an API server on a real socket: counts, findings worst first, exit codes."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from warren_cli.remote import fleet_status
from warren_cli.remote.fleet_reply import ListedGateway, ListedPolicy, ListedTunnel, ReplyError, ServiceHealth
from warren_contracts.commands import Role
from warren_contracts.peers import PresenceState
from warren_contracts.status import DriverState, FleetTunnel, HostFacts, ReasonCode, TunnelState, TunnelStatus
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run


def test_status_of_a_good_fleet_is_four_lines_and_exit_code_0(run: Run, api: LiveApi) -> None:
    api.bus.add_peer("hub", "hub")
    api.bus.add_peer("spoke-1", "branch")
    api.bus.add_tunnel("hub+spoke-1")
    api.bus.add_tunnel("hub+spoke-2", TunnelState.STANDBY)
    lines = run("status").stdout.splitlines()
    assert lines == ["services  ready", "gateways  2 online", "tunnels   1 standby, 1 up"]


def test_status_names_what_is_wrong_worst_first_and_ends_with_3(run: Run, api: LiveApi) -> None:
    for number in range(30):
        api.bus.add_tunnel(f"hub+spoke-{number:02}", TunnelState.DEGRADED)
    down = TunnelStatus(name="hub+spoke-99", state=TunnelState.DOWN, reason=ReasonCode.PEER_UNREACHABLE)
    api.bus.tunnels["hub+spoke-99"] = FleetTunnel(
        name="hub+spoke-99", state=TunnelState.DOWN, peers=("hub", "spoke-99"), ends={"hub": down}
    )
    offline = api.bus.add_peer("spoke-1", "branch")
    api.bus.peers["spoke-1"] = offline.model_copy(
        update={"presence": PresenceState.OFFLINE, "refused": "10.0.0.0/8 is another peer's", "clock_skew_s": -7.5}
    )
    api.bus.add_peer("hub", "hub")
    said = run("status", code=3, lines=0).stdout.splitlines()
    assert said[1:3] == ["gateways  1 offline, 1 online", "tunnels   30 degraded, 1 down"]
    rows = [" ".join(line.split()) for line in said[5:]]
    assert rows[:4] == [
        "gateway spoke-1 offline -",
        "gateway spoke-1 announcement rejected 10.0.0.0/8 is another peer's",
        "gateway spoke-1 clock wrong -7.5 s to the bus: set its clock",
        "tunnel hub+spoke-99 down hub: peer-unreachable",
    ]
    assert rows[-1] == "and 14 more: warren status --all"
    assert len(run("status", "--all", code=3, lines=0).stdout.splitlines()) == 5 + 34
    of_hubs = json.loads(run("status", "--tag", "hub", "--json", code=3, lines=0).stdout)
    assert of_hubs["gateways"] == {"online": 1}
    assert of_hubs["tunnels"] == {"degraded": 30, "down": 1}


def test_status_names_gateways_with_drift_or_an_outdated_revision(run: Run, api: LiveApi) -> None:
    drifted_at = datetime.now(UTC) - timedelta(minutes=5)
    facts = {
        "gw1": HostFacts(received_revision=7, applied_revision=6),
        "gw2": HostFacts(received_revision=7, applied_revision=7, drifted_at=drifted_at),
        "gw3": HostFacts(received_revision=7, applied_revision=7, drifted_at=drifted_at - timedelta(hours=2)),
    }
    for peer, host in facts.items():
        api.bus.peers[peer] = api.bus.add_peer(peer, "branch").model_copy(update={"host": host})
    rows = [" ".join(line.split()) for line in run("status", code=3, lines=0).stdout.splitlines()]
    assert rows[-2:] == [
        "gateway gw1 revision outdated revision 6 is applied, 7 was received",
        "gateway gw2 config drift 5 min ago its daemon did not hold what the agent had given to it",
    ]


def test_status_without_its_services_names_them(run: Run, api: LiveApi) -> None:
    api.bus.unavailable = {"metrics"}
    rows = [" ".join(line.split()) for line in run("status", code=3, lines=0).stdout.splitlines()]
    assert rows[0] == "services not ready: what follows is not known"
    assert any(row.startswith("service metrics not ready the metrics service is unavailable") for row in rows)


def test_the_words_of_states_are_those_of_the_contracts() -> None:
    assert {*fleet_status.GOOD, *fleet_status.WORST_FIRST} == {state.value for state in TunnelState}
    assert (fleet_status.ONLINE, fleet_status.OFFLINE) == (PresenceState.ONLINE, PresenceState.OFFLINE)
    assert (fleet_status.UNREACHABLE, fleet_status.NO_REASON) == (DriverState.UNREACHABLE, ReasonCode.NONE)


def test_status_of_a_good_fleet_waits_for_no_models_and_no_tables(api: LiveApi, tmp_path: Path) -> None:
    api.bus.add_peer("hub", "hub")
    token = tmp_path / "token"
    token.write_text(TOKENS[Role.VIEWER])
    token.chmod(0o600)
    code = "import sys; from warren_cli.entry import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    arguments = [sys.executable, "-c", code, "status", "--url", api.url, "--token-file", str(token)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("services  ready\ngateways  1 online\n")
    assert not {"pydantic", "httpx", "rich.console", "importlib.metadata"} & set(done.stderr.split())


@pytest.mark.parametrize(
    ("parse", "entry"),
    [
        (ListedGateway.parse, {"peer": 7}),
        (ListedGateway.parse, {"tags": "branch"}),
        (ListedGateway.parse, {"host": {"drifted_at": "yesterday"}}),
        (ListedGateway.parse, {"host": {"drifted_at": "2026-01-01T00:00:00"}}),
        (ListedGateway.parse, {"host": {"applied_revision": True}}),
        (ListedGateway.parse, {"clock_skew_s": "1"}),
        (ListedGateway.parse, {"drivers": [7]}),
        (ListedTunnel.parse, {"ends": {"hub": "up"}}),
        (ListedTunnel.parse, {"peers": [7]}),
        (ListedPolicy.parse, {"policy": {"version": "1"}}),
        (ServiceHealth.parse, {"ready": "yes"}),
    ],
)
def test_a_reply_that_no_api_server_sends_is_refused(parse: Any, entry: dict[str, Any]) -> None:
    with pytest.raises(ReplyError, match="no Warren API server sends"):
        parse(entry)
