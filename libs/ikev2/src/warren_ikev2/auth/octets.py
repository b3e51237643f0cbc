"""The octets that an AUTH payload covers (RFC 7296, 2.15; RFC 9242, 3.3.1)."""

from dataclasses import dataclass, field

from warren_ikev2.constants import Prf
from warren_ikev2.crypto.prf import prf

_KEY_PAD = b"Key Pad for IKEv2"


@dataclass(frozen=True, slots=True)
class SignedOctets:
    """InitiatorSignedOctets or ResponderSignedOctets, in parts."""

    prf: Prf
    real_message: bytes
    """The signer's first IKE_SA_INIT message, from the header on."""
    peer_nonce: bytes
    sk_p: bytes = field(repr=False)
    """SK_pi of the initiator, SK_pr of the responder."""
    id_body: bytes
    int_auth: bytes = b""

    @property
    def data(self) -> bytes:
        """RealMessage | nonce of the other side | prf(SK_p, ID body) | IntAuth."""
        return self.real_message + self.peer_nonce + prf(self.prf, self.sk_p, self.id_body) + self.int_auth

    def shared_key_mac(self, secret: bytes) -> bytes:
        """AUTH data of a pre-shared key or an EAP method's key."""
        return prf(self.prf, prf(self.prf, secret, _KEY_PAD), self.data)
