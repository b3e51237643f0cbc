"""A charon's control socket (VICI), blocking, for tests."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import vici

from warren_lab.charon import Charon

LIMIT_SECONDS = 90.0
"""For one answer: longer than charon's own limits below, so that its reason arrives."""
INITIATE_LIMIT_MILLISECONDS = 60_000
TERMINATE_LIMIT_MILLISECONDS = 3_000


class Vici:
    """charon's control socket: one short session a call, so that no half-read answer is left behind."""

    def __init__(self, charon: Charon) -> None:
        self._path = charon.vici_path

    @contextlib.contextmanager
    def session(self) -> Iterator[vici.Session]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT_SECONDS)
            connection.connect(str(self._path))
            yield vici.Session(connection)

    def load(self, name: str, connection: dict[str, Any]) -> None:
        with self.session() as session:
            session.load_conn({name: connection})

    def unload(self, name: str) -> None:
        with self.session() as session:
            session.unload_conn({"name": name})

    def load_shared(self, name: str, kind: str, secret: bytes, *owners: str) -> None:
        """Give charon a secret of a kind: IKE, EAP or PPK."""
        with self.session() as session:
            session.load_shared({"id": name, "type": kind, "data": secret, "owners": list(owners)})

    def initiate(self, name: str, child: str = "net") -> None:
        """Returns when the CHILD_SA is up. Raises vici.CommandException with charon's reason."""
        with self.session() as session:
            list(session.initiate({"ike": name, "child": child, "timeout": INITIATE_LIMIT_MILLISECONDS}))

    def rekey(self, **what: str) -> None:
        with self.session() as session:
            session.rekey(what)

    def terminate(self, name: str) -> None:
        with self.session() as session, contextlib.suppress(vici.exception.CommandException):
            list(session.terminate({"ike": name, "force": "yes", "timeout": TERMINATE_LIMIT_MILLISECONDS}))

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
