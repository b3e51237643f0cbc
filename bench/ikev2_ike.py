"""`ike_handshake_<group>`, `ike_responder` and `ike_memory`: what an IKE_SA costs.

Handshakes are timed with charon as the peer, from the call to the first CHILD_SA; charon with charon alternates with ours
in the same run and over the same link. The responder is a process of its own; its load comes from this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_interface
from pathlib import Path as FilePath
from typing import Any

import vici
from harness import Bench, Rival, Row, absolute, compared
from ikev2_child import PROPOSALS, SECRET

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.aio import Client
from warren_ikev2.aio.builder import ConnectionBuilder
from warren_ikev2.aio.endpoint import open_driver
from warren_ikev2.configuration import EndpointConfiguration
from warren_lab.charon import Charon
from warren_lab.charon_conf import Settings, charon_settings
from warren_lab.lab import Lab
from warren_lab.loop import NamespaceLoop

GROUPS = ("x25519", "ecp256", "ecp384", "modp2048", "modp3072")
SHORT_EXPONENTS, SHORT = ("modp2048", "modp3072"), "_short_exponents"
"""MODP groups measured once more with charons whose private exponents have twice the group's strength, as ours have, instead
of the modulus' length, which is their default."""
AIM_MS = 10.0  # a handshake with charon as the peer
RESPONDER_TARGET = 500.0  # handshakes a CPU second of the responder
MEMORY_TARGET_KB = 100.0  # resident memory an SA
RUNS = 7
HANDSHAKES_A_RUN = 400
PARALLEL = 16
SAS = 1000
OURS, PEERS = "203.0.113.1", "203.0.113.2"


class States(logging.Handler):
    """When the newest IKE_SA reached each state, by the log's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.reached: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", "") == "state_changed":
            self.reached[record.fields["new"]] = record.created  # type: ignore[attr-defined]  # put there by extra=


@contextlib.contextmanager
def charon_session(charon: Charon) -> Iterator[vici.Session]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(charon.vici_path))
        yield vici.Session(connection)


def _connection(own: str, peer: str, group: str, own_id: str, peer_id: str, inner: tuple[str, str]) -> dict[str, Any]:
    child = {"local_ts": [inner[0]], "remote_ts": [inner[1]], "esp_proposals": ["aes256gcm16"]}
    return {
        "version": "2", "local_addrs": [own], "remote_addrs": [peer],
        "proposals": [f"aes256gcm16-prfsha384-{group}"], "local": {"auth": "psk", "id": own_id},
        "remote": {"auth": "psk", "id": peer_id}, "children": {"net": child},
    }  # fmt: skip


def measure_handshakes() -> Iterable[Row]:
    with _bed({}) as (charons, loop):
        for group in GROUPS:
            yield from _handshakes_of(group, f"ike_handshake_{group}", charons, loop)
    with _bed({"dh_exponent_ansi_x9_42": "no"}) as (charons, loop):
        for group in SHORT_EXPONENTS:
            yield from _handshakes_of(group, f"ike_handshake_{group}{SHORT}", charons, loop)


@contextlib.contextmanager
def _bed(settings: Settings) -> Iterator[tuple[list[Charon], NamespaceLoop]]:
    """Two charons with these settings over the lab's, joined, and a loop for ours next to the first."""
    with Lab("bh") as lab:
        left, right = lab.namespace("left"), lab.namespace("right")
        lab.link(left, "wan", f"{OURS}/24", right, "wan", f"{PEERS}/24")
        charons = []
        for namespace, inner, via in ((left, "10.91.1.1", PEERS), (right, "10.91.2.1", OURS)):
            namespace.add_address("lo", ip_interface(f"{inner}/32"))
            namespace.add_default_route(via)
            charon = lab.charon(namespace, charon_settings(extra={"charon": settings}))
            charon.start()
            charons.append(charon)
            with charon_session(charon) as session:
                session.load_shared({"id": "s", "type": "IKE", "data": SECRET, "owners": []})
        with NamespaceLoop(left) as loop:
            yield charons, loop


def _handshakes_of(group: str, name: str, charons: list[Charon], loop: NamespaceLoop) -> Iterable[Row]:
    nets = ("10.91.1.1/32", "10.91.2.1/32")
    with charon_session(charons[1]) as session:
        session.load_conn({"ours": _connection(PEERS, OURS, group, "right", "ours", nets[::-1])})
        session.load_conn({"theirs": _connection(PEERS, OURS, group, "right", "left", nets[::-1])})
    with charon_session(charons[0]) as session:
        session.load_conn({"theirs": _connection(OURS, PEERS, group, "left", "right", nets)})
    states = States()
    logger = logging.getLogger("warren_ikev2")
    logger.addHandler(states)
    logger.setLevel(logging.INFO)
    ours, theirs, init, auth = [], [], [], []
    try:
        for _ in range(RUNS):
            ours.append(loop.run(_our_handshake(group)) * 1000)
            reached = states.reached
            init.append((reached["authenticating"] - reached["init-sent"]) * 1000)
            auth.append((reached["established"] - reached["authenticating"]) * 1000)
            theirs.append(_charon_s_handshake(charons[0]) * 1000)
    finally:
        logger.removeHandler(states)
        logger.setLevel(logging.NOTSET)
    note = f"IKE_SA_INIT {statistics.median(init):.2f} ms, IKE_AUTH {statistics.median(auth):.2f} ms; PSK, aes256gcm16"
    yield absolute(name, ours, "ms", better="lower", target=AIM_MS, note=note)
    yield compared(
        f"{name}_next_to_charon", ours, Rival("charon with charon", theirs), "ms", better="lower", target=None,
        note="the rival's time includes VICI",
    )  # fmt: skip


async def _our_handshake(group: str) -> float:
    builder = Client.builder().with_psk(SECRET).with_local_id("ours").with_remote_id("right")
    builder.with_proposals([("aes256gcm16", "prfsha384", group)], [("aes256gcm16",)])
    client = builder.with_networks(["10.91.1.1/32"], ["10.91.2.1/32"]).build()
    begin = time.perf_counter()
    await client.connect(PEERS)
    took = time.perf_counter() - begin
    await client.shutdown()
    return took


def _charon_s_handshake(charon: Charon) -> float:
    with charon_session(charon) as session:
        begin = time.perf_counter()
        list(session.initiate({"ike": "theirs", "child": "net", "timeout": 10_000}))
        took = time.perf_counter() - begin
        list(session.terminate({"ike": "theirs", "timeout": 5_000}))
    return took


class Responder:
    """The child process."""

    def __init__(self) -> None:
        child = FilePath(__file__).with_name("ikev2_child.py")
        self._process = subprocess.Popen([sys.executable, str(child)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.ike_port, self.natt_port = (int(word) for word in self._process.stdout.readline().split())

    def __enter__(self) -> Responder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)

    def cpu_seconds(self) -> float:
        fields = FilePath(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kb(self) -> float:
        lines = FilePath(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))


async def _load(responder: Responder, handshakes: int) -> None:
    """So many handshakes, some of them at a time; the sessions stay up at the responder."""
    builder = ConnectionBuilder().with_psk(SECRET).with_local_id("client").with_remote_id("server")
    builder.with_proposals(*PROPOSALS).with_networks(["10.1.0.0/16"], ["10.2.0.0/16"]).with_dpd(None)
    builder.with_options(initial_contact=False)
    host = ip_address("127.0.0.1")
    configuration = EndpointConfiguration((builder.connection("load"),), 0, 0, remote_natt_port=responder.natt_port)
    driver, _ = open_driver(configuration, host, 1500)
    path = Path(SocketAddress(host, driver.ike_port), SocketAddress(host, responder.ike_port))
    left = iter(range(handshakes))

    async def work() -> None:
        for _ in left:
            await driver.initiate("load", path, childless=False).done

    await asyncio.gather(*(work() for _ in range(PARALLEL)))
    driver.stop()


def measure_responder() -> Iterable[Row]:
    samples, walls = [], []
    with Responder() as responder:
        asyncio.run(_load(responder, 20))
        for _ in range(RUNS):
            cpu, wall = responder.cpu_seconds(), time.perf_counter()
            asyncio.run(_load(responder, HANDSHAKES_A_RUN))
            samples.append(HANDSHAKES_A_RUN / (responder.cpu_seconds() - cpu))
            walls.append(HANDSHAKES_A_RUN / (time.perf_counter() - wall))
    note = f"IKE_SA_INIT and IKE_AUTH, PSK, X25519; the load generator reached {statistics.median(walls):.0f} a second"
    yield absolute("ike_responder", samples, "handshakes/CPU s", better="higher", target=RESPONDER_TARGET, note=note)


def measure_memory() -> Iterable[Row]:
    samples = []
    for _ in range(3):
        with Responder() as responder:
            asyncio.run(_load(responder, 50))
            before = responder.resident_kb()
            asyncio.run(_load(responder, SAS))
            samples.append((responder.resident_kb() - before) / SAS)
    note = f"growth of the responder over {SAS} IKE_SAs with a CHILD_SA each"
    yield absolute("ike_memory", samples, "kB", better="lower", target=MEMORY_TARGET_KB, note=note)


BENCHES = (
    Bench(
        tuple(
            f"ike_handshake_{group}{suffix}"
            for group in (*GROUPS, *(group + SHORT for group in SHORT_EXPONENTS))
            for suffix in ("", "_next_to_charon")
        ),
        measure_handshakes,
        "handshakes with charon",
    ),
    Bench(("ike_responder",), measure_responder, "handshakes as responder"),
    Bench(("ike_memory",), measure_memory, "memory of an SA"),
)
