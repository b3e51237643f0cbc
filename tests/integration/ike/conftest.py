"""Our endpoint and a charon, each in a namespace of its own, joined by a veth pair; kept for a whole module.

203.0.113.1 is ours, with a TUN device for 10.91.1.1; 203.0.113.2 is charon's, which protects 10.91.2.1.
"""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
import vici

from warren_cli.lab import Charon, Lab, Namespace, NamespaceLoop
from warren_cli.lab.charon_conf import charon_settings, render
from warren_cli.lab.lab import can_make_namespaces
from warren_cli.process import wait_until
from warren_ikev2.aio import Session, TunDevice
from warren_ikev2.credentials import PrivateKey
from warren_ikev2.testing_keys import Authority, certificate_pem, make_key, private_pem, public_pem

OURS, PEERS = "203.0.113.1", "203.0.113.2"
OUR_INNER, PEER_INNER = "10.91.1.1", "10.91.2.1"
OUR_ID, PEER_ID = "ours.warren.test", "charon.warren.test"
SECRET = b"the lab's shared secret"
KEY_KINDS = ("ecdsa-p256", "rsa-3072", "ed25519")
VICI_LIMIT_SECONDS = 20.0
SETTINGS = {"rsa_pss": "yes", "delete_rekeyed_delay": "1"}
"""charon's, over those of the lab: PSS signatures, and old inbound SAs that do not outlive a test by much."""
GTC_PLUGINS = "eap-gtc xauth-generic"
"""EAP-GTC both ways; xauth-generic lets charon look passwords up in its own secrets, where it would ask PAM."""


@dataclass(frozen=True)
class Credentials:
    """One kind of key: both sides' keys, and certificates of one authority."""

    authority: Authority
    our_key: PrivateKey
    peer_key: PrivateKey

    @classmethod
    def make(cls, kind: str) -> "Credentials":
        return cls(Authority.make(f"Root {kind}", kind), make_key(kind), make_key(kind))


class Vici:
    """charon's control socket: one short session a call, so that no half-read answer is left behind."""

    def __init__(self, charon: Charon) -> None:
        self._path = charon.vici_path

    @contextlib.contextmanager
    def session(self) -> Iterator[vici.Session]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(VICI_LIMIT_SECONDS)
            connection.connect(str(self._path))
            yield vici.Session(connection)

    def load(self, name: str, connection: dict[str, Any]) -> None:
        with self.session() as session:
            session.load_conn({name: connection})

    def unload(self, name: str) -> None:
        with self.session() as session:
            session.unload_conn({"name": name})

    def initiate(self, name: str, child: str = "net") -> None:
        """Returns when the CHILD_SA is up. Raises vici.CommandException with charon's reason."""
        with self.session() as session:
            lines = [
                entry.get("msg", b"").decode()
                for entry in session.initiate({"ike": name, "child": child, "timeout": 10_000})
            ]
            assert lines is not None

    def rekey(self, **what: str) -> None:
        with self.session() as session:
            session.rekey(what)

    def terminate(self, name: str) -> None:
        with self.session() as session, contextlib.suppress(vici.exception.CommandException):
            list(session.terminate({"ike": name, "force": "yes", "timeout": 3000}))

    def sas(self, name: str) -> list[dict[str, Any]]:
        """The IKE_SAs of a connection, as text."""
        with self.session() as session:
            return [_text(sa[name]) for sa in session.list_sas({"ike": name})]

    def children(self, name: str, state: str = "INSTALLED") -> list[dict[str, Any]]:
        """The CHILD_SAs of a connection in one state."""
        return [child for sa in self.sas(name) for child in sa["child-sas"].values() if child["state"] == state]


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {key: _text(item) for key, item in value.items()}
    return [_text(item) for item in value] if isinstance(value, list) else value


@dataclass
class Bed:
    """Everything a test needs."""

    lab: Lab
    ours: Namespace
    peer: Namespace
    charon: Charon
    vici: Vici
    loop: NamespaceLoop
    tun: TunDevice
    credentials: dict[str, Credentials]

    def attach(self, session: Session) -> None:
        """Let the session carry the TUN device's packets."""

        async def attach() -> None:
            self.tun.attach(session)

        self.loop.run(attach())

    def detach(self) -> None:
        async def detach() -> None:
            self.tun.detach()

        self.loop.run(detach())

    def ping(self, count: int = 3, source: str = OUR_INNER, target: str = PEER_INNER, size: int = 56) -> None:
        """Ping through the tunnel; every request must be answered."""
        out = self.ours.run(
            "ping", "-n", "-c", str(count), "-i", "0.01", "-w", "5", "-s", str(size), "-I", source, target, check=False
        )
        assert f" {count} received" in out, out

    def charon_log(self) -> str:
        return self.charon.log()

    def wait_for_log(self, text: str, times: int, limit_seconds: float = 10.0) -> None:
        """Wait until charon's log holds a text so many times."""
        wait_until(
            lambda: self.charon_log().count(text) >= times, f"{times} x {text!r}", limit_seconds, self.charon.process_id
        )

    def reload_charon(self, settings: dict[str, str]) -> None:
        """Give charon other settings; those that it reads for each IKE_SA take effect at once."""
        conf = self.charon.folder / "etc" / "warren.conf"
        conf.write_text(render(charon_settings(extra={"charon": SETTINGS | settings})))
        with self.vici.session() as session:
            session.reload_settings()

    def restart_charon(self) -> None:
        """Stopped and started, with its secrets."""
        self.charon.start()
        load_secrets(self.vici, self.credentials)

    @contextlib.contextmanager
    def second_charon(self, namespace: Namespace) -> Iterator[Vici]:
        """Another charon, with the same secrets."""
        charon = self.lab.charon(namespace, charon_settings(extra={"charon": SETTINGS}))
        charon.start()
        try:
            control = Vici(charon)
            load_secrets(control, self.credentials)
            yield control
        finally:
            charon.stop()

    # what test modules need of this file, which they cannot import
    our_id, peer_id, secret = OUR_ID, PEER_ID, SECRET
    our_inner, peer_inner = OUR_INNER, PEER_INNER
    ours_address, peers = OURS, PEERS

    def charon_connection(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        return charon_connection(*arguments, **more)

    def psk_sides(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"auth": "psk", "id": PEER_ID}, {"auth": "psk", "id": OUR_ID}

    def pubkey_sides(self, credentials: Credentials) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both by certificates of the credentials' authority."""
        certificate = certificate_pem(credentials.authority.issue(PEER_ID, credentials.peer_key)).decode()
        authority = certificate_pem(credentials.authority.certificate).decode()
        return (
            {"auth": "pubkey", "id": PEER_ID, "certs": [certificate]},
            {"auth": "pubkey", "id": OUR_ID, "cacerts": [authority]},
        )

    def raw_sides(self, credentials: Credentials) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both by raw keys."""
        return (
            {"auth": "pubkey", "id": PEER_ID, "pubkeys": [public_pem(credentials.peer_key).decode()]},
            {"auth": "pubkey", "id": OUR_ID, "pubkeys": [public_pem(credentials.our_key).decode()]},
        )

    def iperf(self, *, reverse: bool = False, seconds: int = 1) -> str:
        """iperf3 through the tunnel, the server on charon's side; what the client prints."""
        server = self.peer.spawn("iperf3", "-s", "-1", "-B", PEER_INNER, "--forceflush", stdout=subprocess.PIPE)
        assert server.stdout is not None
        while b"listening" not in (line := server.stdout.readline()):
            assert line, "iperf3 ended before it listened"
        try:
            return self.ours.run(
                "iperf3", "-c", PEER_INNER, "-B", OUR_INNER, "-t", str(seconds), *(["-R"] if reverse else []),
                limit_seconds=30,
            )  # fmt: skip
        finally:
            server.stdout.close()
            server.terminate()
            server.wait(10)


def charon_connection(ike: str, esp: str, local: dict[str, Any], remote: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A connection of charon's, in VICI's words; `child` merges into its only child `net`."""
    child = {
        "local_ts": [f"{PEER_INNER}/32"], "remote_ts": [f"{OUR_INNER}/32"], "esp_proposals": [esp], "mode": "tunnel",
        "rekey_time": "0", "life_time": "0", **more.pop("child", {}),
    }  # fmt: skip
    return {
        "version": "2", "local_addrs": [PEERS], "remote_addrs": [OURS], "proposals": [ike], "local": local,
        "remote": remote, "rekey_time": "0", "children": {"net": child}, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    if not can_make_namespaces():
        pytest.skip("needs root, or a user namespace with capabilities")
    with make_bed(lambda lab, peer: lab.charon(peer, charon_settings(extra={"charon": SETTINGS}))) as made:
        yield made


@pytest.fixture(scope="module")
def gtc_bed() -> Iterator[Bed]:
    """The same with a charon that knows EAP-GTC."""
    if not can_make_namespaces():
        pytest.skip("needs root, or a user namespace with capabilities")
    plain = charon_settings()["charon"]
    assert not isinstance(plain, str)
    gtc = {"load": f"{plain['load']} {GTC_PLUGINS}", "plugins": {"eap-gtc": {"backend": "generic"}}}
    settings = charon_settings(extra={"charon": SETTINGS | gtc})
    with make_bed(lambda lab, peer: lab.charon(peer, settings)) as made:
        yield made


@pytest.fixture(scope="module")
def sid_bed(other_strongswan: Callable[[str], Path]) -> Iterator[Bed]:
    """The same with the strongSwan of Debian sid, for what Debian 12's does not know."""
    if not can_make_namespaces():
        pytest.skip("needs root")
    root, settings = other_strongswan("sid"), charon_settings(extra={"charon": SETTINGS})
    with make_bed(lambda lab, peer: lab.charon(peer, settings, root)) as made:
        yield made


@contextlib.contextmanager
def make_bed(make_charon: Callable[[Lab, Namespace], Charon]) -> Iterator[Bed]:
    """A bed with the charon that `make_charon` returns for a namespace."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab("ike"))
        ours, peer = lab.namespace("ours"), lab.namespace("peer")
        lab.link(ours, "wan", f"{OURS}/24", peer, "wan", f"{PEERS}/24")
        peer.add_address("lo", ip_interface(f"{PEER_INNER}/32"))
        peer.add_default_route(OURS)
        charon = make_charon(lab, peer)
        charon.start()
        stack.callback(charon.stop)
        loop = stack.enter_context(NamespaceLoop(ours))
        tun = loop.run(_open_tun())
        stack.callback(tun.close)
        for command in (
            ["ip", "address", "add", f"{OUR_INNER}/32", "dev", tun.name],
            ["ip", "link", "set", tun.name, "up", "mtu", "1400"],
            ["ip", "route", "add", "10.91.2.0/24", "dev", tun.name, "src", OUR_INNER],
        ):
            ours.run(*command)
        bed = Bed(
            lab, ours, peer, charon, Vici(charon), loop, tun, {kind: Credentials.make(kind) for kind in KEY_KINDS}
        )
        load_secrets(bed.vici, bed.credentials)
        yield bed


async def _open_tun() -> TunDevice:
    return TunDevice("warren%d")


def load_secrets(control: Vici, credentials: dict[str, Credentials]) -> None:
    with control.session() as session:
        session.load_shared({"id": "lab", "type": "IKE", "data": SECRET, "owners": [OUR_ID, PEER_ID]})
        for kind in credentials.values():
            session.load_key({"type": "any", "data": private_pem(kind.peer_key).decode()})


CELLS: dict[str, bool] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Count the cells of the matrix: one is passed only if nothing of it failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's Result, which pytest does not type here
    if item.get_closest_marker("matrix") is not None and not report.skipped:
        CELLS[item.nodeid] = CELLS.get(item.nodeid, True) and report.passed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CELLS:
        failed = [name for name, passed in CELLS.items() if not passed]
        for name in failed:
            terminalreporter.write_line(f"cell failed: {name.rpartition('[')[2].rstrip(']')}")
        terminalreporter.write_line(
            f"interoperability matrix: {len(CELLS) - len(failed)} cells passed, {len(failed)} failed"
        )
