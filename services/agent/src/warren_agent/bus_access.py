"""How this host reaches the bus: the servers, and the CA that it pinned when it joined (`ca.pem` in the state folder)."""

import asyncio
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import structlog

from warren_agent.errors import BadStateError, EnrolmentError
from warren_agent.state.store import StateStore
from warren_bus.settings import BusSettings, server_url
from warren_bus.tls import explain, fingerprint_of, presented_chain

log = structlog.get_logger("warren_agent")

DEFAULT_PORT = 4222
CHAIN_LIMIT = 5.0  # s for a server to show its certificates


def bus_settings(store: StateStore, servers: Sequence[str], token: str = "", *, cleartext: bool = False) -> BusSettings:
    """The settings of a connection by this host's key. BadStateError where TLS needs a CA, and none was pinned."""
    pinned = store.ca_file.exists()
    if not pinned and needs_tls(servers):
        raise BadStateError(f"{store.ca_file} is missing: enrol again with a new join token, which names the bus's CA")
    return BusSettings(
        tuple(servers), store.nkey_file, token, ca_file=store.ca_file if pinned else None, cleartext=cleartext
    )


def needs_tls(servers: Sequence[str]) -> bool:
    return any(urlsplit(server_url(server)).scheme == "tls" for server in servers)


async def pin_authority(store: StateStore, servers: Sequence[str], fingerprint: bytes | None) -> None:
    """Pin the CA that a join token names, as the servers show it. Nothing is sent to them but the begin of a handshake.

    The connection that follows verifies the server by it, so that a server that shows the CA without a certificate of it gains nothing.

    Raises:
        EnrolmentError: the token names no CA, no server shows that one, or none answers.
    """
    if fingerprint is None:
        raise EnrolmentError(
            "the join token names no CA, so the servers cannot be verified: it was made while the bus had no TLS; ask an operator"
            " for a new one"
        )
    reasons: list[str] = []
    for server in servers:
        url = urlsplit(server_url(server))
        host = url.hostname or ""
        if url.scheme != "tls":
            continue
        try:
            chain = await presented_chain(host, url.port or DEFAULT_PORT, CHAIN_LIMIT)
        except ssl.SSLError as error:
            reasons.append(explain(error, host))
        except TimeoutError:
            reasons.append(
                f"{host} does not answer within {CHAIN_LIMIT:g} s: see the route, the firewall (TCP) and the port"
            )
        except OSError as error:
            reasons.append(f"{host}: {error.strerror or error}")
        else:
            for certificate in map(ssl.DER_cert_to_PEM_cert, chain):
                if fingerprint_of(certificate) == fingerprint:
                    await asyncio.to_thread(store.save_authorities, (certificate,))
                    log.info("bus.ca_pinned", server=server, sha256=fingerprint.hex())
                    return
            reasons.append(
                f"{host} does not show the CA that the join token names: another server answers in its place, or the CA was"
                " changed since the token was made (then ask for a new one)"
            )
    raise EnrolmentError(f"nothing was sent: {'; '.join(reasons)}")
