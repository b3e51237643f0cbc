"""The trust document: the signing keys, the bus's servers and CAs, and the epoch, signed by the root only.

Its revision is stored, so that it grows when a key changes and an agent never accepts an older one as newer.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from warren_bus.tls import fingerprint_of
from warren_contracts.documents import TRUST_SUBJECT, SignedDocument, TrustDocument
from warren_contracts.names import PublicKey
from warren_contracts.tokens import TrustAnchors
from warren_registry.ports import Tables, TrustRow
from warren_trust.signing import Signer


@dataclass(frozen=True, slots=True)
class BusAccess:
    """How hosts reach the bus: URLs of its servers, and the CAs (PEM) that vouch for them, the one that signs now first."""

    servers: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()


class Trust:
    """Creates the trust document of the keys in the settings, and of how the bus is reached now."""

    def __init__(
        self, root: Signer, policy: PublicKey, registry: PublicKey, access: Callable[[], BusAccess] = BusAccess
    ) -> None:
        self._access = access
        self._root = root
        self._policy = policy
        self._registry = registry
        self._current: tuple[TrustRow, SignedDocument] | None = None

    @property
    def root_key(self) -> PublicKey:
        return self._root.public_key

    def anchors(self) -> TrustAnchors:
        """What a join token says of the fleet."""
        authorities = self._access().authorities
        return TrustAnchors(base64.b64decode(self.root_key), fingerprint_of(authorities[0]) if authorities else None)

    async def document(self, tables: Tables) -> SignedDocument:
        """The current document; a new one if its content or the epoch has changed since the last one."""
        epoch = (await tables.fleet.state()).epoch
        last = await tables.fleet.last_trust()
        access = self._access()
        content = (self._policy, self._registry, access.servers, access.authorities)
        if last is None or last.epoch != epoch or last[2:] != content:
            await tables.fleet.next_revision()  # one writer at a time
            revision = last.revision + 1 if last is not None and last.epoch == epoch else 1
            last = TrustRow(epoch, revision, *content)
            await tables.fleet.add_trust(last)
        if self._current is None or self._current[0] != last:
            self._current = (last, self._sign(last))
        return self._current[1]

    def _sign(self, row: TrustRow) -> SignedDocument:
        text = TrustDocument.model_validate(row._asdict()).model_dump_json()
        return self._root.document(TRUST_SUBJECT, row.epoch, row.revision, text)
