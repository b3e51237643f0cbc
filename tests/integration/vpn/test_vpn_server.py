"""The VPN server as a process, with clients in namespaces of their own: addresses, limits, refusals, kills and restarts."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scapy.layers.inet import IP, UDP

from warren_ikev2.errors import IkeError
from warren_lab.errors import CommandFailedError
from warren_lab.ping import Ping
from warren_lab.process import wait_until
from warren_testkit.lab.transfers import Host, exchange_datagrams, transfer
from warren_testkit.lab.vpn_bed import INSIDE, LIMIT_SECONDS, OUTSIDE, VpnBed, make_vpn_bed
from warren_vpn.server.control import Disconnected, DisconnectRequest, Reloaded, ReloadRequest, ServerStatus
from warren_vpn.server.errors import ServerError
from warren_vpn.server.folder import public_text
from warren_vpn.users.edits import Options, add
from warren_vpn.users.store import UserFile

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]
USERS = {
    "alice": 'addresses = ["10.66.0.9", "fd66::9"]',
    "bob": "",
    "slow": "rate_mbit = 4",
    "narrow": 'networks = ["10.66.0.1/32"]',
    "elsewhere": 'allow_from = ["198.51.100.0/24"]',
}
PASSWORD = "correct horse battery"
DATA = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def bed() -> Iterator[VpnBed]:
    with make_vpn_bed() as made:
        made.write_settings(users=USERS)
        made.start()
        yield made
        assert made.stop() == 0
        assert "wvpn0" not in made.namespace.run("ip", "link")
        assert not table(made)


@pytest.fixture(autouse=True)
def nobody_is_connected(bed: VpnBed) -> None:
    """A client of the test before says goodbye, and does not wait long until the server has taken note of it."""
    bed.wait_for("nobody is connected", lambda it: it.connected == 0)


def table(bed: VpnBed) -> str:
    """The server's nftables table; empty: there is none."""
    try:
        return bed.namespace.run("nft", "list", "table", "inet", "warren_vpn")
    except CommandFailedError:
        return ""


def forwarding(bed: VpnBed, link: str) -> str:
    return bed.namespace.run("cat", f"/proc/sys/net/ipv4/conf/{link}/forwarding").strip()


def outside(bed: VpnBed, version: int = 4) -> Host:
    return Host(bed.outside, OUTSIDE[version])


def test_clients_get_addresses_and_reach_the_outside_by_the_servers_address(bed: VpnBed) -> None:
    with bed.client("alice") as alice, bed.client("bob") as bob:
        assert {str(address) for address in alice.addresses.values()} == {"10.66.0.9", "fd66::9"}
        assert {str(address) for address in bob.addresses.values()} == {"10.66.0.2", "fd66::2"}
        for version in (4, 6):
            transfer(DATA, alice.host(version), outside(bed, version))
            assert exchange_datagrams([1, 1200], bob.host(version), outside(bed, version)) == [1, 1200]
        status = bed.wait_for(
            "the traffic is counted", lambda it: any(one.bytes_in > 2 * len(DATA) for one in it.sessions)
        )
        one, other = status.sessions
        assert (one.user, other.user) == ("alice", "bob")
        assert one.login == "raw-key"
        assert one.addresses == ("10.66.0.9", "fd66::9")
        assert one.packets_in > 100
        assert one.bytes_out > 0
        assert "AES" in one.esp.upper()
        assert [(pool.network, pool.used) for pool in status.pools] == [("10.66.0.0/24", 2), ("fd66::/64", 2)]
        assert " gso_max_segs 45 " in bed.namespace.run("ip", "-d", "link", "show", "wvpn0")
        # client to client is off
        assert alice.reaches(INSIDE[4])
        assert alice.reaches(INSIDE[6])
        bob_address = str(bob.addresses[4])
        alice.namespace.run("ip", "route", "replace", bob_address, "dev", alice.tun.name)
        assert not alice.reaches(bob_address, within_s=1)
    bed.wait_for("nobody is connected", lambda it: it.connected == 0)
    wait_until(lambda: '"event": "session.closed"' in bed.log, "the session's end is logged", LIMIT_SECONDS)


def test_forged_replayed_and_foreign_packets_are_counted_by_kind(bed: VpnBed) -> None:
    """No client can use an address of another: the server checks the inner source against what it gave to the session."""
    with bed.client("alice") as alice, bed.packet_client("bob", place="attacker") as (session, send):
        assert alice.reaches(INSIDE[4])
        # The data process reports once a second: what counts a packet of this session counts all that was dropped before it.
        before = bed.wait_for(
            "counters of now", lambda it: any(one.user == "alice" and one.packets_in for one in it.sessions)
        ).packets_dropped
        (own,) = [str(address) for address in session.info.network.addresses if address.version == 4]
        (pair,) = session.table
        stolen = bytes(IP(src=str(alice.addresses[4]), dst=OUTSIDE[4]) / UDP(dport=9) / b"not mine")
        honest = pair.outbound.seal(bytes(IP(src=own, dst=OUTSIDE[4]) / UDP(dport=9) / b"mine"))
        forged = bytearray(pair.outbound.seal(bytes(IP(src=own, dst=OUTSIDE[4]) / UDP(dport=9) / b"mine")))
        forged[-1] ^= 1
        foreign = [b"\x12\x34\x56\x78" + honest[4:]] * 50
        for packet in (pair.outbound.seal(stolen), honest, honest, bytes(forged), *foreign):
            send(packet)
        expected = {"selector": 1, "replay": 1, "integrity": 1}

        def are_counted(status: ServerStatus) -> bool:
            new = {kind: count - before.get(kind, 0) for kind, count in status.packets_dropped.items()}
            # The server's kernel sends some multicast to the TUN device by itself, for which there is no SA either.
            return {kind: new.get(kind, 0) for kind in expected} == expected and new.get("no_sa", 0) >= len(foreign)

        bed.wait_for("each is counted by its kind", are_counted)
        assert alice.reaches(INSIDE[4])


def test_a_rate_limit_drops_what_is_beyond_it(bed: VpnBed) -> None:
    with bed.client("slow") as client, client.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((str(client.addresses[4]), 0))

        def dropped(status: ServerStatus) -> bool:
            for _ in range(200):  # each time a quarter of a second's worth of traffic, at once
                sender.sendto(bytes(1200), (OUTSIDE[4], 9))
            return status.packets_dropped.get("rate", 0) > 100

        bed.wait_for("packets beyond the rate are dropped", dropped)


def test_refusals_are_counted_by_kind(bed: VpnBed) -> None:
    before = bed.status().refusals
    for name, key in (("alice", Ed25519PrivateKey.generate()), ("mallory", Ed25519PrivateKey.generate())):
        with pytest.raises(IkeError), bed.client(name, key=key, place="attacker"):
            pass
    with pytest.raises(IkeError), bed.client("elsewhere", place="attacker"):
        pass
    after = bed.status().refusals
    assert after["authentication"] == before.get("authentication", 0) + 1
    assert after["unknown-identity"] == before.get("unknown-identity", 0) + 2
    assert '"event": "login.refused"' in bed.log


def test_clients_connect_only_from_where_they_may(bed: VpnBed) -> None:
    """By `limits.allow_from` for all, and by a user's own instead."""
    alices, bobs = (f'allow_from = ["{bed.address_of(name)}/32"]' for name in ("alice", "bob"))
    before = bed.status().refusals
    bed.write_settings(limits=alices, users={"alice": "", "bob": bobs})
    try:
        bed.ask(ReloadRequest(), Reloaded)
        with bed.client("alice"), bed.client("bob"):
            assert bed.status().connected == 2
        for name, place in (("alice", "attacker"), ("alice", "bob"), ("bob", "alice")):
            with pytest.raises(IkeError), bed.client(name, place=place):
                pass
    finally:
        bed.write_settings(users=USERS)
        bed.ask(ReloadRequest(), Reloaded)
    after = bed.status().refusals
    # from the attacker nobody may connect; from the other two only the other one
    assert after["address-not-allowed"] == before.get("address-not-allowed", 0) + 1
    assert after["unknown-identity"] == before.get("unknown-identity", 0) + 2


def test_a_password_opens_the_tunnel_and_a_wrong_one_is_counted_and_audited(bed: VpnBed) -> None:
    key = Ed25519PrivateKey.generate()
    options = Options(rate_mbit=800.0, public_key=public_text(key.public_key()))
    add(UserFile(bed.folder / "users.json"), "carol", PASSWORD, False, options)
    assert bed.ask(ReloadRequest(), Reloaded).users == len(USERS) + 1
    before = bed.status().refusals.get("authentication", 0)
    with pytest.raises(IkeError), bed.client("carol", password="guess", place="attacker"):
        pass
    with bed.client("carol", password=PASSWORD, place="attacker") as carol:
        assert carol.reaches(OUTSIDE[4])
        status = bed.status()
        (session,) = status.sessions
        assert (session.user, session.login) == ("carol", "eap-gtc")
        assert status.refusals["authentication"] == before + 1
        # her other login is the same user: it replaces the session
        with bed.client("carol", key=key) as second:
            (session,) = bed.status().sessions
            assert (session.user, session.login) == ("carol", "raw-key")
            assert not carol.reaches(OUTSIDE[4], within_s=1)
            assert second.reaches(OUTSIDE[4])
    audit = [json.loads(line) for line in (bed.folder / "logins.jsonl").read_text().splitlines()]
    assert [(it["result"], it["method"]) for it in audit if it["user"] == "carol"] == [
        ("refused", "eap-gtc"), ("accepted", "eap-gtc"), ("accepted", "raw-key"),
    ]  # fmt: skip
    assert ("alice", "accepted", "raw-key") in {(it["user"], it["result"], it["method"]) for it in audit}
    assert PASSWORD not in bed.log
    assert "guess" not in bed.log


def test_a_second_connection_of_a_user_replaces_the_first(bed: VpnBed) -> None:
    with bed.client("alice") as first, bed.client("alice", place="bob") as second:
        (session,) = bed.status().sessions
        assert session.addresses == tuple(map(str, second.session.info.network.addresses))
        assert first.addresses == second.addresses
        assert second.reaches(INSIDE[4])


def test_an_operator_disconnects_a_user(bed: VpnBed) -> None:
    with bed.client("bob") as bob:
        ended = bed.ask(DisconnectRequest(target="bob"), Disconnected)
        assert len(ended.sessions) == 1
        wait_until(lambda: bob.session.closed, "the client is disconnected", LIMIT_SECONDS)


def test_a_user_who_is_removed_is_disconnected_at_once(bed: VpnBed) -> None:
    with bed.client("bob") as bob:
        bed.write_settings(users={name: it for name, it in USERS.items() if name != "bob"})
        assert bed.ask(ReloadRequest(), Reloaded).users == len(USERS)  # carol is in the user file
        wait_until(lambda: bob.session.closed, "the client is disconnected", LIMIT_SECONDS)
    bed.write_settings(users=USERS)
    bed.ask(ReloadRequest(), Reloaded)


def test_a_user_who_is_removed_from_an_invalid_file_is_disconnected_and_refused(bed: VpnBed) -> None:
    """And of one of which nothing can be read, nobody is disconnected, and nobody can log in."""
    remaining = {name: it for name, it in USERS.items() if name != "bob"}
    try:
        with bed.client("bob") as bob, bed.client("alice") as alice:
            bed.write_settings(limits="inactivity_s = 1", users=remaining)
            with pytest.raises(ServerError, match="limits/inactivity_s"):
                bed.ask(ReloadRequest(), Reloaded)
            wait_until(lambda: bob.session.closed, "the client is disconnected", LIMIT_SECONDS)
            with pytest.raises(IkeError), bed.client("bob", place="attacker"):
                pass
            bed.settings.write_text("identity =")
            with pytest.raises(ServerError, match="not TOML"):
                bed.ask(ReloadRequest(), Reloaded)
            with pytest.raises(IkeError), bed.client("slow", place="attacker"):
                pass
            assert alice.reaches(INSIDE[4])
            assert [session.user for session in bed.status().sessions] == ["alice"]
    finally:
        bed.write_settings(users=USERS)
        bed.ask(ReloadRequest(), Reloaded)
    with bed.client("bob") as bob:
        assert bob.reaches(INSIDE[4])


def test_keys_are_replaced_under_load_without_loss(bed: VpnBed) -> None:
    with bed.client("bob") as bob:
        before = bed.status().sessions[0].rekeys
        with Ping(bob.namespace, IPv4Address(str(bob.addresses[4])), IPv4Address(OUTSIDE[4])) as ping_of_bob:
            assert ping_of_bob.wait_for_reply(LIMIT_SECONDS) is not None
            for _ in range(3):
                bob.loop.run(bob.client.rekey())
                transfer(DATA, bob.host(), outside(bed))
        counts = ping_of_bob.counts()
        assert counts.lost == 0, counts
        bed.wait_for("the rekeyings are counted", lambda it: it.sessions[0].rekeys >= before + 6)


def test_a_client_moves_to_another_address_and_keeps_its_session(bed: VpnBed) -> None:
    with bed.client("bob") as bob:
        (before,) = bed.status().sessions
        moved = "203.0.113.77"
        bob.namespace.run("ip", "address", "add", f"{moved}/24", "dev", "wan")
        bed.namespace.run("ip", "route", "add", f"{moved}/32", "dev", "to-bob")
        bob.loop.run(bob.client.migrate(moved))
        assert bob.reaches(OUTSIDE[4])
        status = bed.wait_for("the server follows", lambda it: it.sessions[0].endpoint.startswith(moved))
        assert (status.sessions[0].id, status.logins) == (before.id, bed.status().logins)
        transfer(DATA, bob.host(), outside(bed))


def test_the_data_process_is_started_again_and_traffic_continues(bed: VpnBed) -> None:
    with bed.client("bob") as bob:
        status = bed.status()
        assert status.data_process_id is not None
        os.kill(status.data_process_id, signal.SIGKILL)
        bed.wait_for("a new data process", lambda it: it.data_process_starts == status.data_process_starts + 1)
        wait_until(lambda: bob.reaches(INSIDE[4], within_s=2), "traffic passes again", LIMIT_SECONDS)


def test_privileges_are_given_up(bed: VpnBed) -> None:
    status = bed.status()
    for process_id in (status.process_id, status.data_process_id):
        text = Path(f"/proc/{process_id}/status").read_text()
        effective = int(next(line.split()[1] for line in text.splitlines() if line.startswith("CapEff:")), 16)
        assert not effective >> 12 & 1, "CAP_NET_ADMIN"
        assert effective & ~(1 << 5 | 1 << 6 | 1 << 7 | 1 << 8) == 0


def test_a_killed_server_leaves_no_rules_and_its_clients_can_connect_to_the_next(bed: VpnBed) -> None:
    assert table(bed)
    assert forwarding(bed, "uplink") == "1"
    with bed.client("alice") as alice:
        bed.kill()
        wait_until(
            lambda: not table(bed) and forwarding(bed, "uplink") == "0",
            "the cleaner has removed the rules",
            LIMIT_SECONDS,
        )
        bed.start()
        assert table(bed)
        assert forwarding(bed, "uplink") == "1"
    with bed.client("alice") as alice:
        assert alice.reaches(OUTSIDE[4])


def test_rules_of_a_server_and_a_cleaner_that_were_killed_are_removed_by_the_next(bed: VpnBed) -> None:
    cleaners = [process for process in bed.namespace.process_ids() if process != bed.status().data_process_id]
    assert bed.process is not None
    cleaners.remove(bed.process.pid)
    (cleaner,) = cleaners
    os.kill(cleaner, signal.SIGKILL)
    bed.kill()
    assert table(bed)
    assert forwarding(bed, "uplink") == "1"
    bed.namespace.run("nft", "add", "chain", "inet", "warren_vpn", "leftover")
    bed.start()
    assert "leftover" not in table(bed)
    assert bed.stop() == 0
    assert not table(bed)
    assert forwarding(bed, "uplink") == "0"
    bed.start()


def test_an_exhausted_pool_is_counted_and_recovers(bed: VpnBed) -> None:
    bed.stop()
    bed.write_settings(pools=["10.66.0.0/30"], users={"bob": "", "dave": ""})
    bed.start()
    with bed.client("bob") as bob:
        assert str(bob.addresses[4]) == "10.66.0.2"
        with pytest.raises(IkeError) as caught, bed.client("dave", place="attacker"):
            pass
        assert caught.value.error_code == "INTERNAL_ADDRESS_FAILURE"
        assert bed.status().refusals["pool-exhausted"] == 1
        assert bed.log.count('"event": "pool.exhausted"') == 1
        bed.wait_for("the client without an address is gone", lambda it: it.logins == 2 and it.connected == 1)
    with bed.client("dave", place="attacker") as dave:
        assert str(dave.addresses[4]) == "10.66.0.2"
