"""The certificates of a deployment in containers: made by `keys`, kept valid by `certificates`, shared out to who listens."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from warren_stack.deploy.folders import DATABASE, Deployment
from warren_stack.deploy.users import share_out, take
from warren_stack.services import SERVICES
from warren_stack.tls.folder import ListenerCertificate, TlsFolder
from warren_stack.tls.keeper import TRUST, CertificateKeeper
from warren_trust.certificates import LOOPBACK

CA_FILE = "ca.pem"  # in the share of each container that verifies another one
CERTIFICATE, KEY = "tls.crt", "tls.key"
LISTENERS = ("api", "metrics", "nats", "postgres")
VERIFIERS = (DATABASE, *(service.name for service in SERVICES), "prometheus")

Report = Callable[[str], None]


class DeploymentCertificates:
    """`advertised`: addresses and names by which others reach what is published."""

    def __init__(self, deployment: Deployment, advertised: Sequence[str], report: Report) -> None:
        self._deployment = deployment
        self._folder = TlsFolder(deployment.data.tls)
        listeners = [ListenerCertificate(name, (name, *LOOPBACK, *advertised)) for name in LISTENERS]
        self._keeper = CertificateKeeper(self._folder, listeners, lambda: datetime.now(UTC), report)

    def make(self) -> None:
        """Make what is missing, and share it out. Raises LocalError or OSError."""
        if self._folder.path.exists():
            take(self._folder.path)
        self._keeper.prepare()
        self._share_authorities()
        for name in LISTENERS:
            self._share(name)

    async def keep(self) -> None:
        """Renew what is due, and hand out a replaced CA, until cancelled: the containers load the new files themselves."""
        reload: dict[str, Callable[[], Awaitable[None]]] = {name: partial(self._reshare, name) for name in LISTENERS}
        await self._keeper.run({**reload, TRUST: self._reshare_authorities})

    async def _reshare(self, name: str) -> None:
        self._share(name)

    async def _reshare_authorities(self) -> None:
        self._share_authorities()

    def _share(self, name: str) -> None:
        files = {KEY: self._folder.key(name), CERTIFICATE: self._folder.certificate(name)}
        share_out(self._deployment.shares, name, {file: path.read_text() for file, path in files.items()})

    def _share_authorities(self) -> None:
        authorities = self._folder.trusted.read_text()
        for name in VERIFIERS:
            share_out(self._deployment.shares, name, {CA_FILE: authorities})


def parse_names(text: str) -> tuple[str, ...]:
    """Names and addresses by comma."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
