"""`warren tunnels`: filters, orders and outputs, and what `--watch` prints again."""

import csv
import io
import json
import os
import select
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from warren_cli.remote.tunnel_rows import SortError, ordered, row_of
from warren_cli.remote.tunnels import csv_line
from warren_contracts.commands import OrderTunnel, Role
from warren_contracts.status import FleetTunnel, ReasonCode, TrafficStats, TunnelState, TunnelStatus
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run

NOW = datetime.now(UTC)


def tunnel(name: str, state: TunnelState, hours: float, **fields: object) -> FleetTunnel:
    """A tunnel with one end, which is in its state for so many hours."""
    peer = name.partition("+")[0]
    end = TunnelStatus.model_validate(
        {"name": name, "state": state, "since": NOW - timedelta(hours=hours), "policy": "branches", **fields}
    )
    return FleetTunnel(name=name, state=state, peers=tuple(name.split("+")), ends={peer: end})


@pytest.fixture
def fleet(api: LiveApi) -> LiveApi:
    """Three tunnels of two branches and a lab."""
    found = (
        tunnel("branch-1+hub", TunnelState.UP, 5, traffic=TrafficStats(bytes_in=7)),
        tunnel("branch-2+hub", TunnelState.DOWN, 2, reason=ReasonCode.PEER_UNREACHABLE),
        tunnel("lab+hub", TunnelState.DOWN, 0.1, traffic=TrafficStats(bytes_in=9)),
    )
    for each in found:
        api.bus.tunnels[each.name] = each
    for peer in ("branch-1", "branch-2"):
        api.bus.add_peer(peer, "branch")
    api.bus.add_peer("lab", "lab")
    api.bus.add_peer("hub", "hub")
    return api


def names(run: Run, *words: str) -> list[str]:
    return run("tunnels", "-o", "name", *words).stdout.split()


def test_a_filter_is_a_query_over_states_tags_and_ages(run: Run, fleet: LiveApi) -> None:
    assert names(run, "--filter", "state:down tag:branch age:>1h -policy:lab") == ["branch-2+hub"]
    assert names(run, "--filter", "state:down") == ["branch-2+hub", "lab+hub"]
    assert names(run, "--filter", "tag:lab") == ["lab+hub"]
    assert "No tunnels match." in run("tunnels", "--filter", "tag:nowhere").stderr
    assert "unknown field `colour`" in run("tunnels", "--filter", "colour:red", code=1).stderr


def test_rows_are_sorted_by_one_or_several_keys(run: Run, fleet: LiveApi) -> None:
    assert names(run, "--sort", "state,since") == ["lab+hub", "branch-2+hub", "branch-1+hub"]
    assert names(run, "--sort", "-since") == ["branch-1+hub", "branch-2+hub", "lab+hub"]
    assert names(run, "--sort", "in") == ["lab+hub", "branch-1+hub", "branch-2+hub"]
    assert names(run, "--sort", "reason")[0] == "branch-2+hub"
    assert "--sort: `colour` is not one of name, state" in run("tunnels", "--sort", "colour", code=1).stderr


def test_outputs_are_json_yaml_csv_and_wide(run: Run, fleet: LiveApi) -> None:
    parsed = json.loads(run("tunnels", "-o", "json").stdout)
    assert parsed == json.loads(run("tunnels", "--json").stdout)
    assert yaml.safe_load(run("tunnels", "-o", "yaml").stdout) == parsed
    rows = list(csv.DictReader(io.StringIO(run("tunnels", "list", "-o", "csv").stdout)))
    assert [(row["tunnel"], row["bytes_in"], row["reason"]) for row in rows] == [
        ("branch-1+hub", "7", ""), ("branch-2+hub", "0", "branch-2: peer-unreachable"), ("lab+hub", "9", ""),
    ]  # fmt: skip
    wide = run("tunnels", "-o", "wide").stdout.splitlines()
    assert "POLICY" in wide[0]
    assert "branches" in wide[1]
    assert "Invalid value" in run("tunnels", "-o", "xml", code=1).stderr


def test_csv_holds_no_formula_and_no_control_characters() -> None:
    detail = "\x1b[31m\n=HYPERLINK(1)"
    hostile = tunnel("t", TunnelState.DOWN, 1, reason=ReasonCode.OTHER, detail=detail)
    line = csv_line(row_of(hostile.model_copy(update={"disagreement": '=cmd|" /C calc"!A0'}), NOW))
    assert line[-1].startswith("'=cmd")
    assert all(text.isprintable() for text in line)
    for text, written in ((" ;\uff1d1", " ;'\uff1d1"), ("x; =1", "x;' =1"), ("x - 1, -2", "x - 1, -2")):
        assert csv_line(row_of(hostile.model_copy(update={"disagreement": text}), NOW))[-1].startswith(written)


def test_a_sort_of_nothing_still_refuses_a_wrong_key() -> None:
    with pytest.raises(SortError):
        ordered((), "name,odd")


def test_rekey_and_restart_order_the_agent_of_one_end(run: Run, fleet: LiveApi) -> None:
    name = next(iter(fleet.bus.tunnels))
    peer = fleet.bus.tunnels[name].peers[0]
    assert f"the agent of {peer} is to rekey it" in run("tunnels", "rekey", name).stdout
    assert "add --yes" in run("tunnels", "restart", name, code=2).stderr
    assert json.loads(run("tunnels", "restart", name, "--yes", "--json").stdout)["action"] == "restart"
    assert "not an end" in run("tunnels", "rekey", name, "--peer", "elsewhere", code=1).stderr
    assert "to rekey its IKE_SA" in run("tunnels", "rekey", name, "--ike").stdout
    assert "has no CHILD_SA of odd" in run("tunnels", "restart", name, "--child", "odd", "--yes", code=1).stderr
    assert "give --child or --ike" in run("tunnels", "rekey", name, "--child", "net", "--ike", code=2).stderr
    ordered = [request for _, verb, request in fleet.bus.calls if verb == "order_tunnel"]
    assert [(it.peer, it.action.value) for it in ordered if isinstance(it, OrderTunnel)] == [
        (peer, "rekey"),
        (peer, "restart"),
        (peer, "rekey"),
    ]


@pytest.mark.slow
def test_watch_prints_again_when_a_tunnel_changes_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKENS[Role.ADMIN])
    token.chmod(0o600)
    with capture_logs(), LiveApi() as api:
        api.bus.tunnels["a+hub"] = tunnel("a+hub", TunnelState.UP, 1)
        started = subprocess.Popen(
            [sys.executable, "-c", "from warren_cli.entry import main; main()", "tunnels", "--watch", "-o", "csv"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "WARREN_URL": api.url, "WARREN_TOKEN_FILE": str(token), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert started.stdout is not None
        try:
            lines = iter(started.stdout.readline, "")
            assert next(line for line in lines if line.startswith("a+hub")).split(",")[1] == "up"
            api.bus.tunnels["a+hub"] = tunnel("a+hub", TunnelState.DOWN, 0)
            while True:  # the watcher may connect to the event stream after the first event: it follows what comes
                api.publish("tunnel", {"tunnel": "a+hub", "state": "down"})
                if _has_line(started, timeout_s=2.0):
                    break
            assert next(line for line in lines if line.startswith("a+hub")).split(",")[1] == "down"
            started.send_signal(signal.SIGINT)
            assert started.wait(60) == 130
            assert started.stderr is not None
            assert started.stderr.read() == ""
        finally:
            started.kill()
            started.communicate()


def _has_line(process: "subprocess.Popen[str]", timeout_s: float) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], timeout_s)[0])
