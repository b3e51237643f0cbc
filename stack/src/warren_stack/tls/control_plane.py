"""TLS of `warren up`: which listeners have it, for which names, from whose files, and how each is reached."""

import ipaddress
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from warren_stack.errors import LocalError
from warren_stack.ports import url
from warren_stack.run_as import ProcessUser
from warren_stack.tls.folder import ListenerCertificate, TlsFolder
from warren_stack.tls.keeper import CertificateKeeper, OwnCertificate, Reload
from warren_stack.tls.listeners import client_context, is_loopback, listener_names

Files = Mapping[str, tuple[Path, Path]]  # certificate and key by listener


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """An operator's files (PEM)."""

    certificate: Path
    key: Path
    authority: Path  # the root CA that clients pin


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """`advertise`: names and addresses by which agents and operators reach this machine; none: the address that it listens on."""

    advertise: tuple[str, ...] = ()
    own: OwnFiles | None = None
    cleartext: bool = False  # no TLS, on the loopback only

    def check(self, hosts: tuple[str, ...]) -> None:
        """Raises LocalError for options that exclude each other; `hosts` are the addresses to listen on."""
        for host in hosts:
            if self.cleartext and not is_loopback(host):
                raise LocalError(
                    f"--cleartext listens on the loopback only, and not on {host}: omit one of the two options"
                )
        if self.own is not None and (self.cleartext or not self.advertise):
            raise LocalError(
                "a certificate of your own needs --advertise with a name or address that it is for, and no --cleartext"
            )


class ControlPlaneTls:
    """The certificates of one `warren up`."""

    def __init__(self, folder: TlsFolder, options: TlsOptions, report: Callable[[str], None]) -> None:
        self.folder = folder
        self.options = options
        self._report = report
        self._keeper: CertificateKeeper | None = None

    def prepare(self, binds: Mapping[str, str], users: Callable[[str], ProcessUser | None]) -> Files:
        """Make what is missing, for the listeners by name and address; their files. With `cleartext` there are none.

        Raises:
            LocalError: the CA is damaged, or an operator's files are unusable at the first start.
        """
        options = self.options
        if options.cleartext:
            return {}
        listeners = [
            ListenerCertificate(name, tuple(dict.fromkeys((*options.advertise, *listener_names(bind)))), users(name))
            for name, bind in binds.items()
        ]
        own = options.own
        brought = (
            OwnCertificate(own.certificate, own.key, own.authority, options.advertise) if own is not None else None
        )
        self._keeper = CertificateKeeper(self.folder, listeners, lambda: datetime.now(UTC), self._report, brought)
        self._keeper.prepare()
        return {name: (self.folder.certificate(name), self.folder.key(name)) for name in binds}

    async def keep(self, reload: Mapping[str, Reload]) -> None:
        """Renew and reload until cancelled. Listeners without a `reload` look at their files themselves."""
        if self._keeper is not None:
            await self._keeper.run(reload)

    def local_url(self, scheme: str, bind: str, port: int) -> str:
        """How this machine reaches a listener: by the address that it listens on, which our CA's certificate is for."""
        return url(self._scheme(scheme), _reachable(bind), port)

    def urls(self, scheme: str, bind: str, port: int) -> tuple[str, ...]:
        """How others reach a listener; none where it listens on all addresses and none is advertised."""
        hosts = self.options.advertise or (() if _is_wildcard(bind) else (bind,))
        return tuple(url(self._scheme(scheme), host, port) for host in hosts)

    @property
    def verified_name(self) -> str:
        """What services verify the bus's certificate by: an operator's own is for the advertised names only. Empty: the URL's host."""
        return self.options.advertise[0] if self.options.own is not None else ""

    @property
    def ca_file(self) -> Path | None:
        """The CAs that services pin."""
        return None if self.options.cleartext else self.folder.services_trust

    def client(self) -> httpx.AsyncClient:
        """A client on this machine that verifies the listeners."""
        verify = ssl.create_default_context() if self.options.cleartext else client_context(self.folder)
        return httpx.AsyncClient(timeout=5.0, trust_env=False, verify=verify)

    def _scheme(self, scheme: str) -> str:
        return {"tls": "nats", "https": "http"}[scheme] if self.options.cleartext else scheme


def _reachable(bind: str) -> str:
    """An address of this machine at which a listener on `bind` answers."""
    if not _is_wildcard(bind):
        return bind
    return "::1" if ":" in bind else "127.0.0.1"


def _is_wildcard(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False
