"""The verbs of peers, tunnels, tokens and health against an API server on a real socket: what they print and refuse."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warren_cli.main import app
from warren_contracts.status import (
    DriverState,
    DriverStatus,
    Evidence,
    EvidenceKind,
    FleetTunnel,
    GuardFacts,
    GuardState,
    HostFacts,
    ReasonCode,
    TunnelState,
    TunnelStatus,
)
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run


def test_peers_are_listed_shown_retagged_and_revoked(run: Run, api: LiveApi) -> None:
    for number in range(600):  # more than one page
        api.bus.add_peer(f"gw{number:03}", "branch")
    assert len(run("peers").stdout.splitlines()) == 601
    assert len(json.loads(run("peers", "list", "--json").stdout)) == 600
    assert "tags        hub, dmz" in run("peers", "retag", "gw001", "hub", "dmz", "--yes").stdout
    assert "priority    200" in run("peers", "priority", "gw001", "200").stdout
    assert "priority" not in run("peers", "priority", "gw001").stdout
    assert "priority: " in run("peers", "priority", "gw001", "0", code=1).stderr
    unreachable = DriverStatus(kind="strongswan", state=DriverState.UNREACHABLE)
    api.bus.peers["gw002"] = api.bus.peers["gw002"].model_copy(update={"drivers": (unreachable,)})
    assert "online, strongswan unreachable" in run("peers", "show", "gw002").stdout
    assert "online, strongswan unreachable" in run("peers").stdout
    assert run("peers", "revoke", "gw001", "--yes").stdout == "gw001 is revoked\n"
    assert json.loads(run("peers", "show", "gw001", "--json").stdout)["revoked"] is True
    assert "tags/0: must be 1 to 63" in run("peers", "retag", "gw001", "Hub>", "--yes", code=1).stderr


def test_tunnels_are_listed_by_state_and_shown(run: Run, api: LiveApi) -> None:
    api.bus.add_tunnel("hub+spoke-1")
    api.bus.add_tunnel("hub+spoke-2", TunnelState.DOWN)
    assert [line.split()[:2] for line in run("tunnels").stdout.splitlines()[1:]] == [
        ["hub+spoke-1", "up"],
        ["hub+spoke-2", "down"],
    ]
    assert len(json.loads(run("tunnels", "list", "--state", "down", "--json").stdout)) == 1
    assert "peers   hub, spoke-1" in run("tunnels", "show", "hub+spoke-1").stdout
    assert "is not one of" in run("tunnels", "list", "--state", "odd", code=1).stderr


def test_degraded_tunnel_is_shown_with_its_reason_its_evidence_and_what_its_ends_disagree_in(
    run: Run, api: LiveApi
) -> None:
    seen = datetime.now(UTC) - timedelta(minutes=5)
    hub = TunnelStatus(
        name="hub+spoke-1", state=TunnelState.DEGRADED, reason=ReasonCode.NARROWED, detail="remote 10.77.0.0/24",
        evidence=Evidence(kind=EvidenceKind.TRAFFIC, at=seen), since=seen,
    )  # fmt: skip
    spoke = TunnelStatus(name="hub+spoke-1", state=TunnelState.DOWN, since=seen + timedelta(seconds=43))
    api.bus.tunnels["hub+spoke-1"] = FleetTunnel(
        name="hub+spoke-1", state=TunnelState.DOWN, peers=("hub", "spoke-1"), ends={"hub": hub, "spoke-1": spoke},
        disagreement="hub: degraded, spoke-1: down",
    )  # fmt: skip
    listed = run("tunnels").stdout
    assert "traffic 5 min ago" in listed
    assert "hub: degraded, spoke-1: down, hub: narrowed (remote 10.77.0.0/24)" in listed
    shown = run("tunnels", "show", "hub+spoke-1").stdout
    assert "disagreement  hub: degraded, spoke-1: down" in shown
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert {"evidence traffic 5 min ago", "evidence none"} <= {*rows}
    assert "(43 s after hub: each end names when its own state changed)" in shown


def test_host_facts_of_a_peer_are_shown_and_a_wrong_clock_is_named(run: Run, api: LiveApi) -> None:
    api.bus.add_peer("gw1", "branch")
    guard = GuardFacts(
        state=GuardState.REFUSED, detail="nft: Error: busy", restored_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    )
    host = HostFacts(
        kernel="Linux 6.1.0 x86_64",
        forwards_ipv4=False,
        path_mtu=1_400,
        behind_nat=True,
        guard=guard,
        ike_sockets=("[::]:500", "[::]:4500"),
    )
    driver = DriverStatus(
        kind="strongswan", state=DriverState.UP, socket="/var/run/charon.vici", plugins="aes openssl vici"
    )
    changes = {"host": host, "clock_skew_s": 31.5, "drivers": (driver,)}
    api.bus.peers["gw1"] = api.bus.peers["gw1"].model_copy(update=changes)
    shown = run("peers", "show", "gw1").stdout
    for line in (
        "Linux 6.1.0 x86_64",
        "+31.5 s to the bus: set the clocks",
        "off (IPv4)",
        "1400 bytes",
        "yes: an announced",
        "refused: nft: Error: busy; table restored 2026-01-02",
        "[::]:500, [::]:4500",
        "/var/run/charon.vici",
        "aes openssl vici",
    ):
        assert line in shown


def test_a_join_token_is_alone_on_standard_output(run: Run) -> None:
    result = run("token", "create", "--tag", "branch", "--uses", "3", "--lifetime", "7d")
    assert result.stdout.startswith("wj1_")
    assert len(result.stdout.splitlines()) == 1
    assert "3 use(s), tags branch" in result.stderr
    assert "warning" not in result.stderr
    assert "warning: without --tag a gateway that joins reads only policies" in run("token", "create").stderr


def test_a_token_file_is_new_and_private_and_gone_when_no_token_was_made(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "join.token"
    result = run("token", "create", "--out", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("wj1_")
    assert "wj1_" not in result.output
    assert run("token", "create", "--out", str(path), code=1).stderr.endswith("File exists\n")
    other = tmp_path / "other.token"
    run("token", "operator", "eve", "--out", str(other), code=1, WARREN_URL="http://127.0.0.1:1")
    assert not other.exists()
    assert "role viewer" in run("token", "operator", "eve", "--out", str(other)).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lifetime", "5y"),
        ("--tag", "A>"),
        ("--subnet", "10.0.0.0/33"),
        ("--uses", "0"),
        ("--uses", "x"),
        ("--peer", "S 1"),
    ],
)
def test_a_wrong_value_of_a_join_token_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("token", "create", *arguments, code=1).stderr.startswith("warren: ")


def test_health_names_the_parts_and_fails_when_one_is_unavailable(run: Run, api: LiveApi) -> None:
    assert "policy/postgres" in run("health").stdout


def test_a_new_epoch_is_announced(run: Run) -> None:
    assert run("epoch", "advance").stdout.startswith("Epoch 2 is announced (before: 1).")
    assert json.loads(run("epoch", "advance", "--to", "7", "--json").stdout)["epoch"] == 7
    assert "higher than epoch 7, which was published already" in run("epoch", "advance", "--to", "7", code=1).stderr


def test_health_of_a_fleet_without_metrics_is_exit_code_1(run: Run, api: LiveApi) -> None:
    api.bus.unavailable = {"metrics"}
    result = CliRunner().invoke(app, ["health", "--json", "--url", api.url])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["dependencies"]["metrics"] is False


def test_tokens_are_listed_and_removed(run: Run) -> None:
    assert "no join tokens" in run("token", "list").stderr
    token = run("token", "create", "--tag", "branch", "--note", "for the lab").stdout.strip()
    bearer = run("token", "operator", "eve", "--role", "operator").stdout.strip()
    listed = run("token", "list").stdout
    assert "for the lab" in listed
    assert token not in listed
    identifier = json.loads(run("token", "list", "--json").stdout)[0]["id"]
    assert run("token", "remove", identifier, "--yes").stdout == f"join token {identifier} is removed\n"
    assert [it["name"] for it in json.loads(run("token", "list", "--operator", "--json").stdout)] == ["eve"]
    operators = run("token", "list", "--operator").stdout
    assert "operator" in operators
    assert bearer not in operators
    assert "exists already" in run("token", "operator", "eve", code=1).stderr
    assert json.loads(run("token", "remove", "--operator", "eve", "--json", "--yes").stdout)[0]["name"] == "eve"
    gone = run("token", "remove", "--operator", "eve", "--yes", code=1)
    assert gone.stderr.startswith("warren: ")
    assert gone.stderr.count("\n") == 1


def test_a_tunnel_that_is_not_up_is_explained(run: Run, api: LiveApi) -> None:
    api.bus.add_tunnel("hub+gw1", TunnelState.UNKNOWN)
    shown = run("explain", "hub+gw1").stdout
    assert "agents-silent" in shown
    assert "hub does not report the tunnel" in shown
    assert json.loads(run("explain", "hub+gw1", "--json").stdout)["cause"] == "agents-silent"
    assert "No end has a current report" in run("tunnels", "show", "hub+gw1").stdout
    assert run("explain", "nothing", code=1).stderr.startswith("warren: ")


def test_a_destination_is_routed_from_each_peer(run: Run, api: LiveApi) -> None:
    api.bus.add_peer("gw1", "branch")
    (line,) = run("route", "https://203.0.113.9:8443/x", "--from", "gw1").stdout.splitlines()[1:]
    assert line.split()[:3] == ["gw1", "203.0.113.9", "none"]
    (shown,) = json.loads(run("route", "[2001:db8::9]", "--json").stdout)
    assert (shown["peer"], shown["address"], shown["verdict"]) == ("gw1", "2001:db8::9", "none")
    assert "no peer protects" in shown["detail"]
    assert "unknown peer gw9" in run("route", "203.0.113.9", "--from", "gw9", code=1).stderr
    assert "no host in" in run("route", "https://", code=1).stderr


@pytest.mark.parametrize("before", [True, False])
def test_options_of_a_group_are_those_of_its_verb_wherever_they_stand(run: Run, api: LiveApi, before: bool) -> None:
    api.bus.add_peer("gw1", "branch")
    api.bus.add_tunnel("hub+spoke-1")
    api.bus.add_tunnel("hub+spoke-2", TunnelState.DOWN)

    def ordered(group: str, verb: str, *options: str) -> tuple[str, ...]:
        return (group, *options, verb) if before else (group, verb, *options)

    assert "127.0.0.1:1" in run(*ordered("peers", "list", "--url", "http://127.0.0.1:1"), code=1).stderr
    assert [it["peer"] for it in json.loads(run(*ordered("peers", "list", "--json")).stdout)] == ["gw1"]
    found = json.loads(run(*ordered("tunnels", "list", "--state", "down", "--json")).stdout)
    assert [it["name"] for it in found] == ["hub+spoke-2"]


def test_an_option_before_a_verb_that_does_not_have_it_is_refused(run: Run, api: LiveApi) -> None:
    api.bus.add_tunnel("hub+spoke-1")
    assert "No such option: --state" in run("tunnels", "--state", "down", "show", "hub+spoke-1", code=2).stderr


def test_a_filter_that_matches_nothing_says_so_and_a_mistyped_peer_is_an_error(run: Run, api: LiveApi) -> None:
    api.bus.add_peer("gw1", "branch")
    api.bus.add_tunnel("hub+spoke-1")
    assert run("tunnels", "--state", "down").stderr == "No tunnels match.\n"
    assert run("tunnels", "--peer", "gw1").stderr == "No tunnels match.\n"
    assert "there is no peer gv1" in run("tunnels", "--peer", "gv1", code=1).stderr


def test_an_end_that_no_longer_reports_is_stale(run: Run, api: LiveApi) -> None:
    before = datetime.now(UTC) - timedelta(minutes=7)
    ends = {peer: TunnelStatus(name="hub+spoke-1", state=TunnelState.UP) for peer in ("hub", "spoke-1")}
    stale = FleetTunnel(
        name="hub+spoke-1", state=TunnelState.UNKNOWN, peers=("hub", "spoke-1"), ends=ends, stale=("hub", "spoke-1"),
        reported_at=dict.fromkeys(("hub", "spoke-1"), before),
    )  # fmt: skip
    api.bus.tunnels["hub+spoke-1"] = stale
    assert "hub: stale (last report 7 min ago), spoke-1: stale (last report 7 min ago)" in run("tunnels").stdout
    rows = [" ".join(line.split()) for line in run("tunnels", "show", "hub+spoke-1").stdout.splitlines()]
    assert "reason no end reports: hub: last report 7 min ago; spoke-1: last report 7 min ago" in rows
    assert rows.count("last state up") == 2
    assert "state up" not in rows


def test_the_reason_names_its_end(run: Run, api: LiveApi) -> None:
    hub = TunnelStatus(name="hub+spoke-1", state=TunnelState.UP)
    spoke = TunnelStatus(name="hub+spoke-1", state=TunnelState.DOWN, reason=ReasonCode.PEER_UNREACHABLE)
    api.bus.tunnels["hub+spoke-1"] = FleetTunnel(
        name="hub+spoke-1", state=TunnelState.DOWN, peers=("hub", "spoke-1"), ends={"hub": hub, "spoke-1": spoke}
    )
    assert run("tunnels").stdout.rstrip().endswith("spoke-1: peer-unreachable")


def test_what_cannot_be_undone_says_what_it_ends_and_asks(run: Run, api: LiveApi) -> None:
    api.bus.add_peer("spoke-1", "branch", "dmz")
    end = TunnelStatus(name="hub+spoke-1", state=TunnelState.UP, policy="branches")
    api.bus.tunnels["hub+spoke-1"] = FleetTunnel(
        name="hub+spoke-1", state=TunnelState.UP, peers=("hub", "spoke-1"), ends={"hub": end}
    )
    asked = run("peers", "revoke", "spoke-1", code=2).stderr
    assert "Revoke spoke-1 for good and end 1 tunnel (policies: branches)?" in asked
    assert "Remove dmz from spoke-1, which has 1 tunnel" in run("peers", "retag", "spoke-1", "branch", code=2).stderr
    assert "or --none to remove them" in run("peers", "retag", "spoke-1", code=2).stderr
    assert "Remove abcdefghijklmnop" in run("token", "remove", "abcdefghijklmnop", code=2).stderr
    assert not api.bus.peers["spoke-1"].revoked
    assert "tags        branch, dmz, new" in run("peers", "retag", "spoke-1", "branch", "dmz", "new").stdout
    assert "tags        -" in run("peers", "retag", "spoke-1", "--none", "--yes").stdout


def test_a_token_may_be_for_the_gateways_of_some_tags(run: Run, api: LiveApi, tmp_path: Path) -> None:
    for peer, tag in (("a-1", "customer-a"), ("b-1", "customer-b"), ("hub", "hub")):
        api.bus.add_peer(peer, tag)
    for name in ("a-1+hub", "b-1+hub"):
        api.bus.add_tunnel(name)
    own = tmp_path / "own.token"
    made = run("token", "operator", "customer", "--tag", "customer-a", "--tag", "x", "--out", str(own))
    assert "role viewer, for gateways with customer-a or x" in made.stdout
    assert "for gateways" not in run("token", "operator", "noc").stderr
    rows = [" ".join(row.split()) for row in run("token", "list", "--operator").stdout.splitlines()]
    assert [row.split(" 20")[0] for row in rows[1:]] == ["customer viewer customer-a, x", "noc viewer all"]
    assert json.loads(run("token", "list", "--operator", "--json").stdout)[0]["scope"] == ["customer-a", "x"]
    refused = run("token", "operator", "other", "--tag", "A", code=1).stderr
    assert "scope/0: must be 1 to 63 characters" in refused

    as_customer = {"WARREN_TOKEN_FILE": str(own)}
    assert run("status", **as_customer).stdout.splitlines() == [
        "scope     gateways with customer-a or x, and their tunnels", "services  ready", "gateways  1 online", "tunnels   1 up",
    ]  # fmt: skip
    assert json.loads(run("status", "--json", **as_customer).stdout)["scope"] == ["customer-a", "x"]
    for verb in ("peers", "tunnels"):
        shown = run(verb, **as_customer).stdout
        assert "a-1" in shown
        assert "b-1" not in shown
    assert "unknown peer b-1" in run("peers", "show", "b-1", code=1, **as_customer).stderr
    assert "unknown tunnel b-1+hub" in run("tunnels", "show", "b-1+hub", code=1, **as_customer).stderr
    assert "no policies" in run("policy", "list", **as_customer).stderr.lower()
    assert "requires the role" in run("token", "list", code=1, **as_customer).stderr


def test_a_token_without_end_never_expires(run: Run) -> None:
    run("token", "operator", "noc", "--role", "operator")
    header, row = run("token", "list", "--operator").stdout.splitlines()
    assert header.split() == ["NAME", "ROLE", "SCOPE", "CREATED", "EXPIRES", "BY"]
    assert "never" in row


def test_errors_are_json_on_request(run: Run) -> None:
    refused = json.loads(run("peers", "show", "nobody", "--json", code=1).stderr)
    assert refused["problem"]["type"] == "urn:warren:problem:not-found"
    assert "nobody" in refused["error"]
    unreachable = json.loads(run("peers", "--json", "--url", "http://127.0.0.1:1", code=1).stderr)
    assert "127.0.0.1:1" in unreachable["error"]


def test_a_token_file_that_others_can_read_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o644)
    warning = run("peers").stderr
    assert f"warning: {tmp_path}/token: other users can read this token: chmod 600" in warning


def test_version_and_short_help(run: Run) -> None:
    assert run("--version").stdout.startswith("warren ")
    assert "Usage" in run("-h").stdout
    assert "Usage" in run("peers", "revoke", "-h").stdout
