"""ML-KEM with the strongSwan of Debian sid (6.1 and later): RFC 9370 over IKE_INTERMEDIATE and IKE_FOLLOWUP_KE.

In `make test-all`, which puts that strongSwan into build/sid. Skipped, with the reason, where it cannot be had.
"""

from typing import Any

import pytest

from warren_ikev2.aio import Client, Server

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.sid]

LIMIT_SECONDS = 15.0
GROUPS = ("x25519-ke1_mlkem768", "x25519-ke1_mlkem1024", "x25519-ke1_mlkem768-ke2_x448")
CHARONS_NAMES = {"mlkem768": "ML_KEM_768", "mlkem1024": "ML_KEM_1024", "x448": "CURVE_448"}


@pytest.fixture(scope="module")
def version(sid_bed: Any) -> str:
    with sid_bed.vici.session() as session:
        found = session.version()["version"].decode()
    print(f"strongSwan {found}")
    if tuple(int(part) for part in found.split(".")[:2]) < (6, 1):
        pytest.skip(f"strongSwan {found} of Debian sid is older than 6.1, which knows ML-KEM in proposals")
    return str(found)


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("kind", ["psk", "ed25519"])
@pytest.mark.parametrize("group", GROUPS)
def test_additional_key_exchanges(sid_bed: Any, version: str, group: str, kind: str, role: str) -> None:
    """In the handshake, then in rekeys of the CHILD_SA and the IKE_SA; traffic passes at the end."""
    bed, name = sid_bed, f"sid-{group}-{kind}-{role}"
    ike, esp = f"aes256gcm16-prfsha384-{group}", f"aes256gcm16-{group}"
    sides = bed.psk_sides() if kind == "psk" else bed.raw_sides(bed.credentials[kind])
    bed.vici.load(name, bed.charon_connection(ike, esp, *sides))
    end: Client | Server | None = None
    try:
        if role == "initiator":
            client = end = bed.loop.run(connect(bed, kind, ike, esp))
            session = client.session
        else:
            server = end = bed.loop.run(bind(bed, kind, ike, esp))
            bed.vici.initiate(name)
            session = bed.loop.run(server.accept(), LIMIT_SECONDS)
        bed.attach(session)
        (old,) = session.children.values()
        bed.loop.run(session.rekey_child(old.spi_in), LIMIT_SECONDS)
        bed.loop.run(until_replaced(session, old.spi_in), LIMIT_SECONDS)
        bed.loop.run(session.rekey(), LIMIT_SECONDS)
        bed.vici.rekey(ike=name, child="net")
        (child,) = bed.loop.run(until_replaced(session, next(iter(session.children))), LIMIT_SECONDS)
        assert str(session.info.suite) == ike
        assert str(child.suite) == esp
        assert_charon_agrees(bed, name, group)
        bed.ping(3)
    finally:
        bed.detach()
        if isinstance(end, Client):
            bed.loop.run(end.shutdown())
        elif end is not None:
            bed.loop.run(end.close())
        bed.vici.terminate(name)
        bed.vici.unload(name)


def assert_charon_agrees(bed: Any, name: str, group: str) -> None:
    """charon's own list of the one IKE_SA and its one CHILD_SA names the same algorithms."""
    (sa,) = bed.vici.sas(name)
    (child,) = bed.vici.children(name)
    additional = [part.partition("_")[2] for part in group.split("-")[1:]]
    wanted = {"encr-alg": "AES_GCM_16", "encr-keysize": "256", "dh-group": "CURVE_25519"}
    wanted |= {f"ake{number}": CHARONS_NAMES[word] for number, word in enumerate(additional, start=1)}
    for found in (sa, child):
        assert {key: found.get(key) for key in wanted} == wanted, found
    assert sa["prf-alg"] == "PRF_HMAC_SHA2_384"


def configure(builder: Any, bed: Any, kind: str, ike: str, esp: str) -> Any:
    builder.with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_proposals([ike], [esp])
    builder.with_networks([f"{bed.our_inner}/32"], [f"{bed.peer_inner}/32"])
    if kind == "psk":
        return builder.with_psk(bed.secret)
    credentials = bed.credentials[kind]
    return builder.with_raw_key(credentials.our_key).with_peer_keys(credentials.peer_key.public_key())


async def connect(bed: Any, kind: str, ike: str, esp: str) -> Client:
    client: Client = configure(Client.builder(), bed, kind, ike, esp).build()
    await client.connect(bed.peers, timeout=LIMIT_SECONDS)
    return client


async def bind(bed: Any, kind: str, ike: str, esp: str) -> Server:
    server: Server = await configure(Server.builder(), bed, kind, ike, esp).bind(bed.ours_address)
    return server


async def until_replaced(session: Any, spi_in: int) -> list[Any]:
    while spi_in in session.children or len(session.children) != 1:
        await session.changed()
    return list(session.children.values())
