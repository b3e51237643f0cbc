"""Certificates for servers of tests, made as `warren up` makes them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from warren_stack.server_config import ServerTls
from warren_trust.certificates import LEAF_LIFETIME, LOOPBACK, Authority, issue, make_authority


def server_tls(
    folder: Path,
    authority: Authority | None = None,
    names: Iterable[str] = LOOPBACK,
    *,
    trusted: Iterable[Authority] = (),
    issued_ago: timedelta = timedelta(0),
    for_clients: bool = False,
) -> ServerTls:
    """The files of a server, and those that its clients trust: `trusted`, or the CA that signs. They may be replaced by another call."""
    folder.mkdir(parents=True, exist_ok=True)
    signer = authority or make_authority(datetime.now(UTC))
    issued = issue(signer, "warren test", names, datetime.now(UTC) - issued_ago, LEAF_LIFETIME, for_clients=for_clients)
    files = ServerTls(folder / "tls.crt", folder / "tls.key", folder / "ca.pem")
    files.key.write_bytes(issued.key_pem)
    files.certificate.write_bytes(issued.chain_pem)
    files.authorities.write_bytes(b"".join(known.pem for known in trusted or (signer,)))
    return files
