"""The names of servers under the kill switch: asked again for each round, from ports of the client's own; and the kill switch at boot."""

import json
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

import pytest

from warren_lab.capture import Capture
from warren_lab.loop import NamespaceLoop
from warren_lab.process import wait_until
from warren_testkit.lab.nameserver import NameServer
from warren_testkit.lab.vpn_client_bed import BEHIND, BEHIND6, CLIENT_HOST, SERVERS, VpnBed, make_vpn_bed
from warren_testkit.lab.vpn_client_process import LIMIT_S

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]
NAME_SERVER = "192.0.2.1"  # the router, on the client's link
NAME_SERVER6 = "2001:db8:2::1"
LINK_LOCAL = "fe80::53"
VIRTUAL = ("10.77.0.1", "fd77::1")
NAME = "vpn.example"
ONE = f"vpn 5 A {SERVERS['one'][0]}\n"
BOTH_VERSIONS = f"vpn 5 A {SERVERS['two'][0]}\nvpn 5 AAAA {SERVERS['two'][1]}\n"


@pytest.fixture(scope="module")
def bed() -> Iterator[VpnBed]:
    with make_vpn_bed() as made:
        made.router.add_address("client", ip_interface(f"{LINK_LOCAL}/64"))
        made.share_key()
        yield made


@pytest.fixture(params=[NAME_SERVER])
def names(bed: VpnBed, request: pytest.FixtureRequest) -> Iterator[NameServer]:
    """The name server of the client's network, at the address of the test's parameter."""
    address = request.param
    zone = {LINK_LOCAL: ("%client", "%wan")}.get(address, ("", ""))
    bed.resolv_conf.write_text(f"nameserver {address}{zone[1]}\n")
    with NamespaceLoop(bed.router) as loop:
        server = NameServer(bed.folder, ONE, address + zone[0])
        loop.run(server.start())
        yield server
        bed.end_clients()
        loop.run(_stop(server))


async def _stop(server: NameServer) -> None:
    server.stop()


def leaves_in_clear(bed: VpnBed, names: NameServer) -> bool:
    """Whether another program's question reaches the name server, from a port of its own."""
    program = (
        "import socket, dns.message as m\n"
        f"family, _, _, _, server = socket.getaddrinfo('{names.address.replace('%client', '%wan')}', 53, type=socket.SOCK_DGRAM)[0]\n"
        "s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(1)\n"
        "q = m.make_query('other.example', 'A').to_wire()\n"
        "try:\n"
        "    s.sendto(q, server); s.recv(512); print('answered')\n"
        "except OSError: pass\n"
    )
    return "answered" in bed.client.run(sys.executable, "-c", program)


@pytest.mark.parametrize("names", [NAME_SERVER, NAME_SERVER6, LINK_LOCAL], indirect=True)
def test_a_server_that_moves_is_found_by_its_name_while_nothing_else_leaves(bed: VpnBed, names: NameServer) -> None:
    """The name has a new address while the tunnel is down: the kill switch lets the client's own question pass, and then IKE to the new
    address, no longer to the former one. Nothing else leaves, and no other program's question.
    """
    before = bed.snapshot()
    with bed.capture(*VIRTUAL) as capture:
        client = bed.start(bed.profile(servers=[{"host": NAME}], kill_switch=True))
        up = client.wait_for("vpn.up")
        assert up["server"] == f"{NAME} ({SERVERS['one'][0]})"
        bed.wait_for_ping(BEHIND)
        asked = names.asked(f"{NAME}.")
        assert asked
        names.serve(BOTH_VERSIONS)
        one = bed.servers["one"]
        one.loop.run(one.server.close())
        client.wait_for("vpn.reconnecting")
        assert client.wait_for("vpn.up", 2)["server"] == f"{NAME} ({SERVERS['two'][0]})"
        bed.wait_for_ping(BEHIND6)
        assert names.asked(f"{NAME}.") > asked
        assert not leaves_in_clear(bed, names)
        assert ("other.example.", "A") not in names.queries
        is_there = {SERVERS["two"][0]: True, SERVERS["two"][1]: True, SERVERS["one"][0]: False, "questions": False}

        def is_narrow() -> bool:
            table = bed.client.run("nft", "list", "table", "inet", "warren_vpn_client")
            return {text: text in table for text in is_there} == is_there

        wait_until(is_narrow, "the new address, and neither the former one nor questions, in the table", LIMIT_S)
        rules = bed.client.run("ip", "-4", "rule") + bed.client.run("ip", "-6", "rule")
        assert SERVERS["one"][0] not in rules
        assert f"to {names.address.partition('%')[0]} " not in rules
        assert client.end() == 0
    assert capture.clear_packets() == []
    bed.verb("down")
    bed.assert_put_back(before)
    bed.restart("one")


@pytest.mark.promises
def test_a_name_that_nobody_answers_for_has_its_former_address(bed: VpnBed, names: NameServer) -> None:
    """And without one the client waits, under the kill switch, until there is an answer."""
    client = bed.start(bed.profile(servers=[{"host": NAME}], kill_switch=True))
    client.wait_for("vpn.up")
    client.kill()
    names.is_silent = True
    again = bed.start(bed.profile(servers=[{"host": NAME}], kill_switch=True))
    again.wait_for_text("vpn.name-unresolved", f"{NAME}: the name cannot be looked up")
    assert again.wait_for("vpn.up")["server"] == f"{NAME} ({SERVERS['one'][0]})"
    assert again.end() == 0
    bed.verb("down")
    names.is_silent = False
    names.serve("other 5 A 192.0.2.9\n")
    client = bed.start(bed.profile(servers=[{"host": NAME}], kill_switch=True))
    client.wait_for("vpn.waiting")
    assert not bed.ping(NAME_SERVER)
    names.serve(ONE)
    client.wait_for("vpn.up")
    bed.wait_for_ping(BEHIND)


def test_the_kill_switch_of_a_client_is_in_force_after_a_restart_of_the_machine(bed: VpnBed, names: NameServer) -> None:
    """The kernel forgets table, rules and device; the journal stays, with the boot id of the former run."""
    before = bed.snapshot()
    client = bed.start(bed.profile(servers=[{"host": NAME}], kill_switch=True))
    client.wait_for("vpn.up")
    bed.wait_for_ping(BEHIND)
    assert "a client runs" in bed.verb("load-kill-switch")
    client.kill()
    _restart_machine(bed)
    bed.wait_for_ping(NAME_SERVER)  # what the unit is for
    inner = frozenset(map(ip_address, (CLIENT_HOST, BEHIND, NAME_SERVER, *VIRTUAL)))
    with Capture(bed.client, "wan", inner) as capture:
        assert "in force" in bed.verb("load-kill-switch")
        assert "in force" in bed.verb("load-kill-switch")
        assert not bed.ping(NAME_SERVER)
        assert not bed.ping(BEHIND)
        assert not leaves_in_clear(bed, names)
    assert capture.clear_packets() == []
    again = bed.start(bed.profile(servers=[{"host": NAME}], kill_switch=True))
    again.wait_for("vpn.up")
    bed.wait_for_ping(BEHIND)
    assert again.end() == 0
    assert "put back" in bed.verb("down")
    bed.assert_put_back(before)
    assert "left no kill switch" in bed.verb("load-kill-switch")


def _restart_machine(bed: VpnBed) -> None:
    """Let the client's namespace be as a kernel that has just started, with the host's network up and the disk as it was."""
    run = bed.client.run
    wait_until(lambda: "warren-vpn0" not in run("ip", "-br", "link"), "the device is gone with its processes", LIMIT_S)
    run("nft", "flush", "ruleset")
    for version in ("-4", "-6"):
        for line in run("ip", version, "rule").splitlines():
            priority = line.split(":")[0]
            if priority in ("5180", "5181", "5182"):
                run("ip", version, "rule", "del", "priority", priority)
        run("ip", version, "route", "flush", "table", "5187", check=False)
    path = bed.state / "client.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "00000000-0000-0000-0000-000000000000"}))
