"""`warren vpn client` and its servers: logins by certificate and password, and servers that lie or refuse."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warren_ikev2.addresses import IPAddress
from warren_ikev2.aio import Server, ServerBuilder
from warren_ikev2.auth.login import LoginAttempt, LoginVerdict
from warren_ikev2.credentials import EapTrust, RawKeyAuth
from warren_testkit.ikev2.keys import Authority, certificate_pem, make_key
from warren_testkit.ikev2.logins import TableVerifier
from warren_testkit.lab.vpn_client_bed import (
    BEHIND,
    BOTH,
    NEIGHBOUR,
    POOL,
    RESOLV_CONF,
    SERVERS,
    VpnBed,
    server_builder,
    with_defaults,
)
from warren_testkit.lab.vpn_client_process import LIMIT_S

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]


def test_a_login_by_certificate(bed: VpnBed) -> None:
    authority, server_key, client_key = Authority.make(), make_key("ecdsa-p256"), make_key("ecdsa-p256")
    chain = [authority.issue("vpn.example", server_key)]
    builder = Server.builder().with_certificate(chain, server_key).with_authorities(authority.certificate)
    bed.restart("one", with_defaults(builder))
    login = {
        "kind": "certificate",
        "certificate": certificate_pem(authority.issue("alice@example", client_key)).decode(),
        "key_file": bed.write_key("certificate.pem", client_key),
    }
    trust = {"kind": "certificate", "authorities": certificate_pem(authority.certificate).decode()}
    try:
        client = bed.start(bed.profile(login=login, server_trust=trust))
        client.wait_for("vpn.up")
        bed.wait_for_ping(BEHIND)
        assert client.end() == 0
        chain = [authority.issue("other.example", server_key)]
        builder = Server.builder().with_certificate(chain, server_key).with_authorities(authority.certificate)
        bed.restart("one", with_defaults(builder))
        client = bed.start(bed.profile(login=login, server_trust=trust))
        client.wait_for_text("vpn.attempt-failed", "did not prove that it is vpn.example")
        assert client.end() == 0
    finally:
        bed.restart("one")


def test_a_login_by_password(bed: VpnBed) -> None:
    one = bed.servers["one"]
    builder = Server.builder().with_auth(RawKeyAuth(one.key), EapTrust())
    bed.restart("one", with_defaults(builder.with_logins(TableVerifier({"alice": "correct horse"})), identity=None))
    profile = bed.profile(login={"kind": "password", "user": "alice"})
    try:
        client = bed.start(profile, "--password-file", "-", stdin=b"correct horse\n")
        client.wait_for("vpn.up")
        bed.wait_for_ping(BEHIND)
        assert client.end() == 0
        client = bed.start(profile, stdin=b"wrong battery\n")
        assert client.process.wait(LIMIT_S) == 1  # it does not repeat what would lock the user out
        assert "check user and password" in client.wait_for("vpn.failed")["message"]
        assert "battery" not in client.output.read_text() + client.errors.read_text()
    finally:
        bed.restart("one")


def test_a_refusal_of_somebody_who_proved_nothing_stops_no_client(bed: VpnBed) -> None:
    """Anybody on the path may answer IKE_AUTH with AUTHENTICATION_FAILED; the host's packets must not leave in clear for that."""
    bed.share_key()
    one, two = bed.servers["one"], bed.servers["two"]
    bed.restart("one", _refusing(one.key, bed.identity))
    passwords = Server.builder().with_auth(RawKeyAuth(two.key), EapTrust())
    bed.restart("two", with_defaults(passwords.with_logins(TableVerifier({"alice": "correct horse"})), identity=None))
    try:
        profile = bed.profile(servers=BOTH, login={"kind": "password", "user": "alice"})
        client = bed.start(profile, stdin=b"correct horse\n")
        client.wait_for_text("vpn.attempt-failed", "before it proved that it is vpn.example")
        assert client.wait_for("vpn.up")["server"] == SERVERS["two"][0]
        assert client.end() == 0
    finally:
        bed.restart("one")
        bed.restart("two")


def test_a_login_that_is_refused_after_it_was_accepted_leaves_nothing_in_clear(bed: VpnBed) -> None:
    one = bed.servers["one"]

    def with_password(password: str) -> ServerBuilder:
        builder = Server.builder().with_auth(RawKeyAuth(one.key), EapTrust())
        return with_defaults(builder.with_logins(TableVerifier({"alice": password})), identity=None)

    bed.restart("one", with_password("correct horse"))
    try:
        profile = bed.profile(login={"kind": "password", "user": "alice"}, inactivity_s=10)
        client = bed.start(profile, stdin=b"correct horse\n")
        client.wait_for("vpn.up")
        with bed.capture() as capture:
            bed.restart("one", with_password("another"))
            assert not bed.ping(BEHIND)
            client.wait_for_text("vpn.waiting", "accepted before and is refused now")
            assert not bed.ping(BEHIND)
        assert capture.clear_packets() == []
        assert client.end() == 0
    finally:
        bed.restart("one")


# ---- servers that hang in a step of the login


class Hanging(TableVerifier):
    """Gives no verdict, or lets its server end before the verdict is sent."""

    def __init__(self, before_verdict: Callable[[], None] | None) -> None:
        super().__init__({"alice": "correct horse"})
        self._before_verdict = before_verdict

    async def verify(self, attempt: LoginAttempt, remote: IPAddress) -> LoginVerdict:
        if self._before_verdict is None:
            await asyncio.Event().wait()
        else:
            self._before_verdict()
        return await super().verify(attempt, remote)


STEPS = ["no answer", "after IKE_SA_INIT", "no verdict", "after the verdict"]
_DROP_NATT = (
    "add table inet hang; add chain inet hang c {{ type filter hook forward priority 0; }};"
    " add rule inet hang c ip daddr {} udp dport 4500 drop"
)


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_hangs_in_a_step_of_the_login_is_left_for_the_next_one(bed: VpnBed, step: str) -> None:
    bed.share_key()
    one, two = bed.servers["one"], bed.servers["two"]
    silent = {"no verdict": None, "after the verdict": lambda: one.server.stop()}
    for name, server in (("one", one), ("two", two)):
        table = {"alice": "correct horse"}
        verifier = Hanging(silent[step]) if server is one and step in silent else TableVerifier(table)
        builder = Server.builder().with_auth(RawKeyAuth(server.key), EapTrust()).with_logins(verifier)
        bed.restart(name, with_defaults(builder, identity=None))
    if step == "no answer":
        one.stop()
    elif step == "after IKE_SA_INIT":
        bed.router.run("nft", _DROP_NATT.format(SERVERS["one"][0]))
    try:
        profile = bed.profile(servers=BOTH, login={"kind": "password", "user": "alice"})
        client = bed.start(profile, stdin=b"correct horse\n")
        failed = client.wait_for("vpn.attempt-failed")
        assert failed["server"] == SERVERS["one"][0]
        assert client.wait_for("vpn.up")["server"] == SERVERS["two"][0]
        assert client.end() == 0
    finally:
        if step == "after IKE_SA_INIT":
            bed.router.run("nft", "delete", "table", "inet", "hang")
        bed.restart("one")
        bed.restart("two")


# ---- servers that lie, and refuse


def _wrong_key(key: Ed25519PrivateKey, client: Ed25519PrivateKey) -> ServerBuilder:
    return server_builder(Ed25519PrivateKey.generate(), client)


def _narrowed(key: Ed25519PrivateKey, client: Ed25519PrivateKey) -> ServerBuilder:
    return server_builder(key, client).with_networks(local=["10.50.0.0/16"])


def _own_network(key: Ed25519PrivateKey, client: Ed25519PrivateKey) -> ServerBuilder:
    return server_builder(key, client, pools=("192.168.7.128/25",))


def _exhausted(key: Ed25519PrivateKey, client: Ed25519PrivateKey) -> ServerBuilder:
    return server_builder(key, client, pools=("fd77::/64",))  # the profile asks for IPv4 only


def _refusing(key: Ed25519PrivateKey, client: Ed25519PrivateKey) -> ServerBuilder:
    return server_builder(key, Ed25519PrivateKey.generate())


def test_a_server_cannot_send_questions_for_names_out_of_the_tunnel(bed: VpnBed) -> None:
    """The host's own resolver, or a neighbour on its link, would answer them in clear."""
    builder = server_builder(bed.servers["one"].key, bed.identity).with_address_pool(
        POOL, dns=["127.0.0.53", NEIGHBOUR]
    )
    bed.restart("one", builder)
    try:
        client = bed.start(bed.profile())
        assert client.wait_for("vpn.up")["dns"] == []
        for address in ("127.0.0.53", NEIGHBOUR):
            client.wait_for_text("vpn.remark", f"{address} is not inside the tunnel")
        assert bed.resolv_conf.read_text() == RESOLV_CONF
        assert client.end() == 0
    finally:
        bed.restart("one")


@pytest.mark.parametrize(
    ("liar", "reason"),
    [
        (_wrong_key, "did not prove that it is vpn.example"),
        (_narrowed, "not all of the route 0.0.0.0/0"),
        (_exhausted, "pool is exhausted"),
        pytest.param(_own_network, "this host's own network 192.168.7.0/24", marks=pytest.mark.promises),
        pytest.param(_refusing, "refused the login of alice@example", marks=pytest.mark.promises),
    ],
)
def test_a_server_that_lies_or_refuses_is_left_for_the_next_one(bed: VpnBed, liar: Any, reason: str) -> None:
    bed.share_key()
    bed.restart("one", liar(bed.servers["one"].key, bed.identity))
    try:
        client = bed.start(bed.profile(servers=BOTH, routes=["0.0.0.0/0"]))
        client.wait_for_text("vpn.attempt-failed", reason)
        assert client.wait_for("vpn.up")["server"] == SERVERS["two"][0]
        assert client.end() == 0
    finally:
        bed.restart("one")
