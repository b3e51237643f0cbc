"""`warren-agent doctor` against a daemon, a server and a state folder: what it finds, and the remedy."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from warren_agent.doctor.bus import check_agent, check_servers
from warren_agent.doctor.daemon import check_charon, check_guard
from warren_agent.doctor.examine import examine
from warren_agent.doctor.finding import Check, CheckVerdict, DoctorReport, as_text
from warren_agent.doctor.host import check_addresses, check_mtu, check_state_folder
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.host import HostSurvey, forwards_ipv4, ike_sockets, path_mtu
from warren_agent.settings import check_settings
from warren_agent.state.store import StateStore
from warren_testkit.agent.charon import FakeCharon
from warren_testkit.bus import RealServer
from warren_testkit.bus.certificates import server_tls
from warren_testkit.waiting import eventually
from warren_trust.certificates import LOOPBACK, make_authority


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
async def charon(tmp_path: Path) -> AsyncIterator[FakeCharon]:
    async with FakeCharon(tmp_path / "charon.vici") as found:
        yield found


async def test_daemon_that_answers_is_ok_and_lacking_plugins_are_named(charon: FakeCharon) -> None:
    charon.connections = {"hub+spoke~1": {}, "berlin": {}}
    checks, remotes = await check_charon(StrongswanPaths(charon.vici))
    found = by_name(checks)
    assert found["charon"].verdict is CheckVerdict.OK
    assert found["connections"].detail == "1 with a generation, 1 others"
    assert (found["plugins"].verdict, "curve25519" in found["plugins"].detail) == (CheckVerdict.FAILED, True)
    assert (found["reasons"].verdict, "error-notify" in found["reasons"].remedy) == (CheckVerdict.WARNING, True)
    assert remotes == []


async def test_daemon_that_is_not_there_and_a_file_in_its_place_have_different_remedies(tmp_path: Path) -> None:
    (missing,), _ = await check_charon(StrongswanPaths(tmp_path / "none"))
    (tmp_path / "file").touch()
    (odd,), _ = await check_charon(StrongswanPaths(tmp_path / "file"))
    assert missing.verdict is odd.verdict is CheckVerdict.FAILED
    assert "start strongSwan" in missing.remedy
    assert "not a socket" in odd.detail


NO_CA = Path("/nonexistent")


async def greet(greeting: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("greeting", "verdict", "detail"),
    [
        (b'INFO {"version":"2.15.0","tls_required":true}\r\n', CheckVerdict.OK, "NATS 2.15.0"),
        (b'INFO {"version":"2.15.0"}\r\n', CheckVerdict.OK, "no TLS"),  # on this machine
        (b"HTTP/1.1 400 Bad Request\r\n", CheckVerdict.FAILED, "not a NATS server"),
        (b"INFO {\r\n", CheckVerdict.FAILED, "cannot be read"),
        (b"", CheckVerdict.FAILED, "not a NATS server"),
    ],
)
async def test_server_is_recognized_by_its_greeting(greeting: bytes, verdict: CheckVerdict, detail: str) -> None:
    async with await greet(greeting) as server:
        port = server.sockets[0].getsockname()[1]
        (check,) = await check_servers((f"nats://127.0.0.1:{port}",), NO_CA)
    assert (check.verdict, detail in check.detail) == (verdict, True)


async def test_server_that_is_not_reachable_and_no_server_at_all_are_failures() -> None:
    async with await greet(b"") as server:
        port = server.sockets[0].getsockname()[1]
    (check,) = await check_servers((f"nats://127.0.0.1:{port}",), NO_CA)
    assert check.verdict is CheckVerdict.FAILED
    assert [it.verdict for it in await check_servers((), NO_CA)] == [CheckVerdict.FAILED]


async def test_the_step_of_tls_that_fails_is_named(tmp_path: Path) -> None:
    ours, other = make_authority(datetime.now(UTC)), make_authority(datetime.now(UTC))
    tls = server_tls(tmp_path / "tls", ours)
    async with RealServer(tmp_path / "nats", tls=tls) as server:
        for ca_file, names, ago, detail, remedy in (
            (tls.authorities, LOOPBACK, 0, "NATS 2.", ""),
            (server_tls(tmp_path / "other", other).authorities, LOOPBACK, 0, "is not of the CA", "see who answers"),
            (NO_CA, LOOPBACK, 0, "holds no CA", "enrol this host"),
            (tls.authorities, ("bus.example.net",), 0, "is not for 127.0.0.1", "--advertise 127.0.0.1"),
            (tls.authorities, LOOPBACK, 200, "has expired, or this host's clock is wrong", "renew the certificate"),
        ):
            server_tls(tmp_path / "tls", ours, names, issued_ago=timedelta(days=ago))
            reloads = server.log().count("Reloaded server configuration")
            server.reload()
            await eventually(lambda: server.log().count("Reloaded server configuration") > reloads)  # noqa: B023
            (check,) = await check_servers((server.url,), ca_file)
            assert detail in check.detail
            assert remedy in check.remedy
            assert check.verdict is (CheckVerdict.FAILED if remedy else CheckVerdict.OK)


async def test_guard_is_asked_and_its_findings_are_shown(tmp_path: Path) -> None:
    (missing,) = await check_guard(tmp_path / "none")
    assert missing.verdict is CheckVerdict.WARNING

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert json.loads(await reader.readline()) == {"request": "inspect"}
        findings = [
            {"code": "masquerade", "detail": "oifname wan masquerade"},
            {"code": "rp-filter", "detail": "x", "fixed": True},
        ]
        writer.write(json.dumps({"error": "", "findings": findings}).encode() + b"\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, str(tmp_path / "guard.sock")):
        found = by_name(await check_guard(tmp_path / "guard.sock"))
    assert found["guard"].verdict is CheckVerdict.OK
    assert found["guard masquerade"].detail == "oifname wan masquerade"
    assert "guard rp-filter" not in found


def test_state_folder_that_is_open_to_others_or_not_enrolled_is_named(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    assert [it.name for it in check_state_folder(store)] == ["state"]  # there is none
    store.prepare()
    found = by_name(list(check_state_folder(store)))
    assert (found["state"].verdict, found["enrolment"].verdict) == (CheckVerdict.OK, CheckVerdict.FAILED)
    assert "enrol" in found["enrolment"].remedy
    assert found["disk"].verdict is CheckVerdict.OK
    store.nkey_file.chmod(0o644)
    assert "nkey.seed" in by_name(list(check_state_folder(store)))["state"].detail
    assert check_agent(store.folder).verdict is CheckVerdict.WARNING
    store.lock()
    assert (check_agent(store.folder).verdict, check_agent(store.folder).detail) == (CheckVerdict.OK, "runs")


def test_endpoints_that_are_not_of_this_host_are_a_nat_or_a_mistake() -> None:
    assert [it.verdict for it in check_addresses(check_settings({"endpoints": "127.0.0.1"}))] == [CheckVerdict.OK]
    (foreign,) = check_addresses(check_settings({"endpoints": "192.0.2.77"}))
    assert (foreign.verdict, "NAT" in foreign.remedy) == (CheckVerdict.WARNING, True)


def test_path_mtu_is_the_kernels() -> None:
    assert path_mtu(ip_address("127.0.0.1")) == min(65_535, int(Path("/sys/class/net/lo/mtu").read_text()))
    assert [it.verdict for it in check_mtu(["127.0.0.1", "127.0.0.1", "odd"])] == [CheckVerdict.OK]
    assert forwards_ipv4() in (True, False)


def test_ike_sockets_are_those_of_the_kernel(tmp_path: Path) -> None:
    assert ike_sockets(tmp_path) is None
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
    lines = {"udp": ["00000000:1194", "00000000:01F4", "00000000:01F4", "010200C0:1F90"], "udp6": [f"{'0' * 32}:1194"]}
    for name, addresses in lines.items():
        rows = "".join(f"  1: {address} 00000000:0000 07 0:0 0:0 0 0 0 5 2 0 0\n" for address in addresses)
        (tmp_path / name).write_text(head + rows)
    assert ike_sockets(tmp_path) == ("0.0.0.0:4500", "0.0.0.0:500", "[::]:4500")
    (tmp_path / "udp").write_text(head + "nonsense\n")
    assert ike_sockets(tmp_path) == ("[::]:4500",)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        assert ike_sockets() is not None  # of this host, whatever listens


async def test_report_of_a_host_that_is_not_enrolled_names_what_to_do(tmp_path: Path) -> None:
    settings = check_settings({"state": str(tmp_path), "vici_socket": str(tmp_path / "none")})
    report = await examine(settings)
    assert report.failed
    text = as_text(report)
    assert "failed   enrolment" in text
    assert "-> warren-agent enrol --token-file FILE" in text
    assert DoctorReport.model_validate_json(report.model_dump_json()) == report
    odd = report.model_copy(update={"checks": (Check(name="x", verdict=CheckVerdict.OK, detail="\x1b[31mred"),)})
    assert "\x1b" not in as_text(odd)


def test_facts_of_the_heartbeats_are_read_once_a_minute() -> None:
    now = 0.0
    endpoints = check_settings({"endpoints": "192.0.2.77"}).endpoints
    survey = HostSurvey(endpoints, lambda: now, owns=lambda address: False)
    facts = survey.facts(["127.0.0.1", "odd"])
    assert (facts.behind_nat, facts.path_mtu) == (True, path_mtu(ip_address("127.0.0.1")))
    assert facts.kernel.startswith("Linux ")
    assert survey.facts([]) == facts
    now = 61.0
    assert survey.facts([]).path_mtu is None
    assert HostSurvey((), lambda: now).facts([]).behind_nat is None
