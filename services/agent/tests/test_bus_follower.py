"""The signed list of bus servers and CAs, as an agent follows it: to real servers, by TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from warren_agent.adapters.bus_addresses import BusAddresses
from warren_agent.bus_access import bus_settings, pin_authority
from warren_agent.bus_follower import BusFollower
from warren_agent.errors import BadStateError, EnrolmentError
from warren_agent.state.store import Enrolment, StateStore
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.tls import fingerprint_of, read_authorities
from warren_contracts.documents import SignedDocument, TrustDocument
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.certificates import server_tls
from warren_testkit.intent import public_key
from warren_testkit.waiting import eventually
from warren_trust.certificates import Authority, fingerprint, make_authority

FIRST, SECOND, ATTACKER = (make_authority(datetime.now(UTC)) for _ in range(3))
LIMIT = 60.0  # s
SIGNED = SignedDocument(
    subject="warren.v1.trust", epoch=1, revision=1, payload="{}", signer="root", signature="A" * 86 + "=="
)


def trust(revision: int, servers: tuple[str, ...], *authorities: Authority) -> TrustDocument:
    texts = tuple(authority.pem.decode() for authority in authorities)
    key = public_key("fleet")
    return TrustDocument(epoch=1, revision=revision, policy=key, registry=key, servers=servers, authorities=texts)


@dataclass
class Joined:
    """A host that joined by the first server."""

    store: StateStore
    connection: Connection
    follower: BusFollower
    addresses: BusAddresses

    @property
    def pinned(self) -> list[bytes]:
        return [fingerprint_of(certificate) for certificate in read_authorities(self.store.ca_file)]


@asynccontextmanager
async def joined(folder: Path, server: RealServer, *, fixed: bool = False) -> AsyncIterator[Joined]:
    store = StateStore(folder / "state")
    store.prepare()
    await pin_authority(store, [server.url], fingerprint(FIRST.certificate))
    identity = Enrolment(
        peer="gw1",
        tags=(),
        root=public_key("fleet"),
        trust=SIGNED,
        servers=(server.url,),
        enrolled_at=datetime.now(UTC),
    )
    store.save_identity(identity)
    addresses = BusAddresses([server.url])
    async with Connection(bus_settings(store, [server.url]), name="agent:gw1", inbox_prefix=inbox("gw1")) as connection:
        follower = BusFollower(store, identity, connection, addresses, servers=[server.url], fixed=fixed, jitter_s=0.0)
        await asyncio.wait_for(connection.wait_connected(), LIMIT)
        async with follower:
            yield Joined(store, connection, follower, addresses)


@asynccontextmanager
async def admitting(server: RealServer, nkey: str) -> AsyncIterator[None]:
    async with server, GrantingCallout(server) as callout:
        callout.enrol(nkey, "gw1", ())
        yield


@pytest.fixture
def nkey(tmp_path: Path) -> str:
    store = StateStore(tmp_path / "state")
    store.prepare()
    return store.nkey().public


async def test_an_agent_follows_the_bus_to_another_server_and_another_ca(tmp_path: Path, nkey: str) -> None:
    old = RealServer(tmp_path / "old", tls=server_tls(tmp_path / "old-tls", FIRST))
    new = RealServer(tmp_path / "new", tls=server_tls(tmp_path / "new-tls", SECOND))
    async with admitting(new, nkey), admitting(old, nkey), joined(tmp_path, old) as host:
        host.follower.note(trust(2, (old.url, new.url), FIRST, SECOND))
        await eventually(lambda: host.store.identity().servers == (old.url, new.url), LIMIT)
        assert host.pinned == [fingerprint(FIRST.certificate), fingerprint(SECOND.certificate)]
        assert host.connection.connects == 1  # it stays connected
        await old.kill()
        await eventually(lambda: host.connection.connects >= 2 and host.connection.is_connected, LIMIT)
        host.follower.note(trust(3, (new.url,), SECOND))
        await eventually(lambda: host.store.identity().servers == (new.url,), LIMIT)
        assert host.pinned == [fingerprint(SECOND.certificate)]
        assert {bypass.port for bypass in await host.addresses()} >= {new.port}


@pytest.mark.parametrize("fixed", [False, True])
async def test_a_list_that_leaves_no_server_is_refused_and_tried_again(
    tmp_path: Path, nkey: str, monkeypatch: pytest.MonkeyPatch, *, fixed: bool
) -> None:
    monkeypatch.setattr("warren_agent.bus_follower.RETRY", 0.05)
    server = RealServer(tmp_path / "nats", tls=server_tls(tmp_path / "tls", FIRST))
    later = RealServer(tmp_path / "later", tls=server_tls(tmp_path / "later-tls", FIRST))
    refused: list[TrustDocument] = [
        trust(2, (server.url,), ATTACKER),  # its CA does not vouch for the server
        trust(3, ("nats://192.0.2.1:4222",), FIRST),  # clear text
        trust(4, ("tls://192.0.2.1:99999",), FIRST),
        trust(5, (server.url,), FIRST).model_copy(update={"authorities": ("text",)}),
    ]
    async with admitting(server, nkey), joined(tmp_path, server, fixed=fixed) as host:
        for document in refused:
            assert not await host.follower._adopt(document) or fixed
            assert host.store.identity().servers == (server.url,)
            assert host.pinned == [fingerprint(FIRST.certificate)]
        host.follower.note(trust(6, (later.url,), FIRST))
        if not fixed:
            await eventually(lambda: bool(host.follower._complaint), LIMIT)
            assert host.store.identity().servers == (server.url,)
            async with later:
                await eventually(lambda: host.store.identity().servers == (later.url,), LIMIT, "it is there now")


async def test_a_host_pins_the_ca_of_its_token_only(tmp_path: Path) -> None:
    """F7's sibling: at the join somebody answers in the server's place, with a CA of its own."""
    store = StateStore(tmp_path / "state")
    store.prepare()
    async with RealServer(tmp_path / "evil", tls=server_tls(tmp_path / "evil-tls", ATTACKER)) as evil:
        with pytest.raises(EnrolmentError, match=r"nothing was sent: 127\.0\.0\.1 does not show the CA"):
            await pin_authority(store, [evil.url], fingerprint(FIRST.certificate))
        with pytest.raises(EnrolmentError, match="names no CA"):
            await pin_authority(store, [evil.url], None)
        assert not store.ca_file.exists()
        with pytest.raises(BadStateError, match="enrol again"):
            bus_settings(store, [evil.url])
