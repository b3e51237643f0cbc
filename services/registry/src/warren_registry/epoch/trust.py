"""The trust document: the signing keys and the epoch, signed by the root only.

Its revision is stored, so that it grows when a key changes and an agent never accepts an older one as newer.
"""

from warren_contracts.documents import TRUST_SUBJECT, SignedDocument, TrustDocument
from warren_contracts.names import PublicKey
from warren_registry.ports import Tables, TrustRow
from warren_trust.signing import Signer


class Trust:
    """Creates the trust document of the keys in the settings."""

    def __init__(self, root: Signer, policy: PublicKey, registry: PublicKey) -> None:
        self._root = root
        self._policy = policy
        self._registry = registry
        self._current: tuple[TrustRow, SignedDocument] | None = None

    @property
    def root_key(self) -> PublicKey:
        return self._root.public_key

    async def document(self, tables: Tables) -> SignedDocument:
        """The current document; a new one if a key or the epoch has changed since the last one."""
        epoch = (await tables.fleet.state()).epoch
        last = await tables.fleet.last_trust()
        keys = (self._policy, self._registry)
        if last is None or last.epoch != epoch or (last.policy, last.registry) != keys:
            await tables.fleet.next_revision()  # one writer at a time
            revision = last.revision + 1 if last is not None and last.epoch == epoch else 1
            last = TrustRow(epoch, revision, *keys)
            await tables.fleet.add_trust(last)
        if self._current is None or self._current[0] != last:
            self._current = (last, self._sign(last))
        return self._current[1]

    def _sign(self, row: TrustRow) -> SignedDocument:
        text = TrustDocument(
            epoch=row.epoch, revision=row.revision, policy=row.policy, registry=row.registry
        ).model_dump_json()
        return self._root.document(TRUST_SUBJECT, row.epoch, row.revision, text)
