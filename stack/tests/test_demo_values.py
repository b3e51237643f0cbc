"""The pure halves of the demo: what the captures prove, and what is reported."""

import io
import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
import yaml
from rich.console import Console

from warren_contracts.events import PolicyApplied
from warren_contracts.policy import Policy
from warren_lab.capture import ClearPacket, EspFlow
from warren_lab.errors import TimedOutError
from warren_lab.ping import Echo
from warren_stack.demo.api import ServerSentEvents
from warren_stack.demo.checks import first_reply_under, judge_capture
from warren_stack.demo.fleet import PLANS
from warren_stack.demo.report import (
    DemoReport,
    EditFact,
    PingFact,
    Timings,
    TunnelFact,
    places_text,
    report_from_object,
    report_object,
    report_tables,
)
from warren_stack.demo.scenario import timings

HUB, SPOKE = IPv4Address("203.0.113.2"), IPv4Address("203.0.113.6")
EXAMPLES = Path(__file__).parents[2] / "examples"


def flow(spi: int, first_time: float = 1.0) -> EspFlow:
    return EspFlow(HUB, SPOKE, spi, packets=5, first_time=first_time, last_time=9.0, udp_encapsulated=True)


def full_report() -> DemoReport:
    report = DemoReport()
    report.check("a claim", True, "a detail")
    report.steps.append(("stack", 1.5))
    report.tunnels.append(TunnelFact("t", ("hub", "spoke-1"), "up", "0000000a", "0000000b", "aes256gcm16"))
    report.pings += [PingFact("t", 100, 99), PingFact("u", 50, 50)]
    report.installed.append("strongswan-charon")
    report.edit = EditFact("t", "u", True, 0, 1, "aes256gcm16", "chacha20poly1305")
    report.timings = Timings(1.0, 2.0, 3.0, 4.0)
    return report


def test_judge_capture_holds_for_reported_esp_alone() -> None:
    assert judge_capture([flow(1), flow(2)], [], 0, frozenset((1, 2))).held


@pytest.mark.parametrize(
    ("flows", "clear", "dropped", "reported", "fault"),
    [
        pytest.param([], [], 0, frozenset(), "no ESP was seen", id="silence"),
        pytest.param([flow(1), flow(9)], [], 0, frozenset((1,)), "nobody reported: 00000009", id="foreign-spi"),
        pytest.param([flow(1)], [], 0, frozenset((1, 2)), "not seen: 00000002", id="one-direction"),
        pytest.param([flow(1)], [ClearPacket(HUB, SPOKE, 1.0)], 0, frozenset((1,)), "in clear", id="clear"),
        pytest.param([flow(1)], [], 3, frozenset((1,)), "lost 3 frames", id="dropped"),
    ],
)
def test_judge_capture_names_the_fault(
    flows: list[EspFlow], clear: list[ClearPacket], dropped: int, reported: frozenset[int], fault: str
) -> None:
    judged = judge_capture(flows, clear, dropped, reported)
    assert not judged.held
    assert fault in judged.detail


def test_first_reply_under_a_spi_is_the_first_after_its_first_packet() -> None:
    echoes = [Echo(0, 0.9, 1.1), Echo(1, 1.9, None), Echo(2, 2.4, 2.6), Echo(3, 2.5, 2.55)]
    assert first_reply_under(7, [flow(7, first_time=2.5)], echoes) == 2.55
    assert first_reply_under(8, [flow(7)], echoes) is None


def test_report_is_ok_only_when_everything_held() -> None:
    assert full_report().ok
    report = full_report()
    report.leftovers.append("a process")
    assert not report.ok
    failed = full_report()
    failed.check("another", False)
    assert not failed.ok
    assert not DemoReport().ok


def test_report_object_has_the_documented_fields_and_reads_back() -> None:
    value = json.loads(json.dumps(report_object(full_report())))
    assert set(value["tunnels"][0]) == {"name", "peers", "state", "spi_in", "spi_out", "cipher"}
    assert value["pings"] == {"sent": 150, "received": 149}
    assert value["pings_by_tunnel"] == {"t": {"sent": 100, "received": 99}, "u": {"sent": 50, "received": 50}}
    assert value["installed_packages"] == ["strongswan-charon"]
    assert set(value["edit"]) >= {"changed", "untouched", "untouched_kept_spis", "packets_lost", "changed_packets_lost"}
    assert value["timings_ms"] == {"stored": 1.0, "delivered": 2.0, "applied": 3.0, "first_packet": 4.0}
    assert value["ok"] is True
    assert report_object(report_from_object(value)) == value


def test_report_tables_show_what_failed() -> None:
    report = full_report()
    report.check("tunnels are gone", False, "one is left")
    output = io.StringIO()
    Console(width=160, file=output).print(report_tables(report))
    text = output.getvalue()
    assert "NO" in text
    assert "one is left" in text
    assert "chacha20poly1305" in text
    assert re.search(r"stack +.? +1.50 s", text)
    assert "pings u" in text
    assert "Installed Debian packages, which stay: strongswan-charon" in text


def test_a_demo_that_stays_says_where_to_look_in_lines_that_can_be_pasted() -> None:
    where = {
        "url": "https://127.0.0.1:8400", "token_file": "/t/admin.token", "log": "/t/log", "enter": "nsenter --target 7 --mount --net",
        "page": "https://127.0.0.1:8400/", "sign_in": "https://127.0.0.1:8400/#x",
    }  # fmt: skip
    lines = places_text(where, "/v/bin/warren").splitlines()
    assert "  export WARREN_URL=https://127.0.0.1:8400 WARREN_TOKEN_FILE=/t/admin.token" in lines
    assert "  /v/bin/warren tunnels" in lines
    without = places_text({**where, "page": None, "sign_in": None}, "warren")
    assert "the web page was not built" in without
    assert "None" not in without


def test_plans_do_not_overlap() -> None:
    networks = [network for plan in PLANS for network in (plan.wan.network, plan.management.network, plan.subnet)]
    assert not any(first.overlaps(second) for index, first in enumerate(networks) for second in networks[index + 1 :])


@pytest.mark.parametrize("name", ["hub-spoke", "spoke-1-crypto"])
def test_examples_are_policies(name: str) -> None:
    Policy.model_validate(yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text()))


def test_times_are_those_that_the_agents_saw_and_not_when_they_were_published() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def applied_report(peer: str, delivered: int, applied: int) -> PolicyApplied:
        delivered_at, applied_at, published_at = (
            start + timedelta(milliseconds=ms) for ms in (delivered, applied, 900)
        )
        return PolicyApplied(
            peer=peer, epoch=1, revision=1, ok=True, duration_ms=3.0, at=published_at, delivered_at=delivered_at,
            applied_at=applied_at,
        )  # fmt: skip

    commit = start + timedelta(milliseconds=10)
    found = timings(
        start.timestamp(),
        commit,
        [applied_report("hub", 25, 30), applied_report("spoke-1", 20, 45)],
        commit.timestamp() + 0.2,
    )
    assert found == Timings(stored=10.0, delivered=15.0, applied=35.0, first_packet=200.0)


async def test_a_missing_report_is_named_with_the_last_one_of_its_peer() -> None:
    last = PolicyApplied(
        peer="hub",
        epoch=1,
        revision=1,
        ok=False,
        duration_ms=1.0,
        error="no daemon",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    body = f'{{"data": {last.model_dump_json()}}}'
    events = ServerSentEvents(httpx.Response(200, text=f": connected\n\nevent: {PolicyApplied.TYPE}\ndata: {body}\n\n"))
    await events.connected()
    with pytest.raises(TimedOutError) as caught:
        await events.applied(2, {"hub", "spoke-1"}, 5.0)
    assert "revision 2 is applied (reported since then: hub revision 1 (no daemon), spoke-1 nothing)" in str(
        caught.value
    )


def test_the_set_up_without_root_prints_one_command_and_names_nothing_as_installed(tmp_path: Path) -> None:
    for name, script in (("dpkg-query", "exit 1"), ("id", "echo 1000")):
        fake = tmp_path / name
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
    setup = EXAMPLES.parent / "deploy" / "debian" / "setup.sh"
    listed = tmp_path / "installed"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [setup, "--list", listed], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, listed.read_text()) == (1, "", "")
    assert len(re.findall("^  ", done.stderr, re.MULTILINE)) == 1
    assert "apt-get install -y --no-install-recommends python3-venv" in done.stderr
    wrong = subprocess.run([setup, "--nothing"], capture_output=True, text=True, timeout=60, check=False)
    assert (wrong.returncode, wrong.stderr.startswith("usage: ")) == (2, True)
