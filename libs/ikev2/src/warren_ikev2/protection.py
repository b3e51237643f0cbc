"""Protection of the messages of an IKE_SA: its suite, its keys, and the cipher of each direction (RFC 7296, 3.14)."""

from dataclasses import dataclass, field

from warren_ikev2.crypto.keys import IkeKeys
from warren_ikev2.crypto.sk import SkCipher, sk_cipher
from warren_ikev2.errors import IntegrityError
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.suites import IkeSuite
from warren_ikev2.wire.message import EncryptedPart


@dataclass(slots=True, eq=False)
class MessageProtection:
    """Empty until IKE_SA_INIT has agreed on keys."""

    suite: IkeSuite | None = None
    keys: IkeKeys | None = field(default=None, repr=False)
    """A PPK replaces SK_d, SK_pi and SK_pr in IKE_AUTH (RFC 8784, 3), which leaves the ciphers as they are."""
    inbound: SkCipher | None = field(default=None, repr=False)
    outbound: SkCipher | None = field(default=None, repr=False)

    def suite_and_keys(self) -> tuple[IkeSuite, IkeKeys]:
        """Return what IKE_SA_INIT agreed on; the caller's state guarantees that it is there."""
        if self.suite is None or self.keys is None:
            raise AssertionError("keys are used before IKE_SA_INIT")
        return self.suite, self.keys

    def use(self, suite: IkeSuite, keys: IkeKeys, random_bytes: RandomBytes, *, initiator: bool) -> None:
        """Protect messages with these keys from now on; `initiator`: whether we are the IKE_SA's original initiator."""
        self.suite, self.keys = suite, keys
        from_initiator = sk_cipher(suite, keys.ei, keys.ai, random_bytes)
        from_responder = sk_cipher(suite, keys.er, keys.ar, random_bytes)
        if initiator:
            self.outbound, self.inbound = from_initiator, from_responder
        else:
            self.outbound, self.inbound = from_responder, from_initiator

    def open(self, part: EncryptedPart) -> bytes:
        """Decrypt a message or fragment. IntegrityError: not authentic. MalformedMessageError: authentic, but malformed."""
        if self.inbound is None:
            raise IntegrityError("not protected")
        return self.inbound.open(part.aad, part.body)
