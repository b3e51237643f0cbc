"""The trust of a fleet in memory."""

from warren_contracts.bus_queries import FleetTrust
from warren_contracts.documents import TRUST_SUBJECT, SignerRole, TrustDocument
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer

ROOT = KeyPair.generate(KeyKind.SIGNING)


def fleet_trust(epoch: int) -> FleetTrust:
    """A trust document that the root signed; the root's key stands for every other one."""
    signer = Signer(ROOT, SignerRole.ROOT)
    key = ROOT.public_base64
    document = TrustDocument(epoch=epoch, revision=1, policy=key, registry=key)
    return FleetTrust(root=key, trust=signer.document(TRUST_SUBJECT, epoch, 1, document.model_dump_json()))
