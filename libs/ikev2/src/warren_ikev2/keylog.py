"""Keys of an IKE_SA for Wireshark: the lines of its table `ikev2_decryption_table`.

With such a line all messages of the IKE_SA can be decrypted. It is built only on explicit request and never logged.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field

from warren_ikev2.constants import Encr, Integ, KeGroup, Prf
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.suites import AEAD, IkeSuite, encryption_key_size, integrity_key_size, salt_size

_ENCRYPTION = {
    (Encr.AES_CBC, 128): "AES-CBC-128 [RFC3602]",
    (Encr.AES_CBC, 192): "AES-CBC-192 [RFC3602]",
    (Encr.AES_CBC, 256): "AES-CBC-256 [RFC3602]",
    (Encr.AES_GCM_16, 128): "AES-GCM-128 with 16 octet ICV [RFC5282]",
    (Encr.AES_GCM_16, 192): "AES-GCM-192 with 16 octet ICV [RFC5282]",
    (Encr.AES_GCM_16, 256): "AES-GCM-256 with 16 octet ICV [RFC5282]",
    (Encr.CHACHA20_POLY1305, None): "ChaCha20-Poly1305 [RFC7634]",
}
"""Wireshark's names. It does not know ChaCha20-Poly1305 (4.0); only `warren ike decode` reads that name."""
_INTEGRITY = {
    None: "NONE [RFC4306]",
    Integ.HMAC_SHA2_256_128: "HMAC_SHA2_256_128 [RFC4868]",
    Integ.HMAC_SHA2_384_192: "HMAC_SHA2_384_192 [RFC4868]",
    Integ.HMAC_SHA2_512_256: "HMAC_SHA2_512_256 [RFC4868]",
}


@dataclass(frozen=True, slots=True)
class DecryptionKeys:
    """The keys that decrypt the messages of one IKE_SA, in both directions."""

    spi_i: bytes
    spi_r: bytes
    encryption: Encr
    key_length: int | None
    integrity: Integ | None
    ei: bytes = field(repr=False)
    """With AEAD ciphers: key, then salt."""
    er: bytes = field(repr=False)
    ai: bytes = field(default=b"", repr=False)
    ar: bytes = field(default=b"", repr=False)

    @property
    def suite(self) -> IkeSuite:
        """The algorithms that decryption needs; PRF and group are placeholders."""
        return IkeSuite(self.encryption, self.key_length, Prf.HMAC_SHA2_256, KeGroup.NONE, self.integrity)


def build_line(keys: DecryptionKeys) -> str:
    """One line of Wireshark's table, with its line feed."""
    cipher = _ENCRYPTION[keys.encryption, keys.key_length]
    numbers = [value.hex() for value in (keys.spi_i, keys.spi_r, keys.ei, keys.er)]
    return f'{",".join(numbers)},"{cipher}",{keys.ai.hex()},{keys.ar.hex()},"{_INTEGRITY[keys.integrity]}"\n'


@dataclass(frozen=True, slots=True)
class KeyTable:
    """What a key file holds that can be used, and a remark for each line that cannot."""

    keys: tuple[DecryptionKeys, ...]
    remarks: tuple[str, ...] = ()


def parse_lines(text: str) -> KeyTable:
    """The table's lines; comments (#) and empty lines are skipped."""
    keys, remarks = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            keys.append(_parse_line(line))
        except ConfigurationError as error:
            remarks.append(f"line {number} of the key file: {error}")
    return KeyTable(tuple(keys), tuple(remarks))


def _parse_line(line: str) -> DecryptionKeys:
    ciphers = {name: kind for kind, name in _ENCRYPTION.items()}
    integrities = {name: kind for kind, name in _INTEGRITY.items()}
    try:
        (row,) = csv.reader([line])
        spi_i, spi_r, ei, er, cipher, ai, ar, integrity = (part.strip() for part in row)
        numbers = [_hex(part) for part in (spi_i, spi_r, ei, er, ai, ar)]
    except (ValueError, csv.Error):
        raise ConfigurationError("not a line of Wireshark's ikev2_decryption_table") from None
    if cipher not in ciphers or integrity not in integrities:
        unknown = cipher if cipher not in ciphers else integrity
        raise ConfigurationError(f"{unknown[:64]!r}: messages that are protected by this algorithm cannot be opened")
    return _checked(DecryptionKeys(numbers[0], numbers[1], *ciphers[cipher], integrities[integrity], *numbers[2:]))


def build_table(keys: Iterable[DecryptionKeys]) -> str:
    """Return the contents of the file."""
    return "".join(build_line(item) for item in keys)


def _checked(keys: DecryptionKeys) -> DecryptionKeys:
    """ConfigurationError: a key, or an SPI, of another length than its algorithm has."""
    if (keys.encryption in AEAD) != (keys.integrity is None):
        raise ConfigurationError("an AEAD cipher needs the integrity algorithm NONE, any other cipher an algorithm")
    encryption = encryption_key_size(keys.encryption, keys.key_length) + salt_size(keys.encryption)
    expected = {
        "an SPI": (8, keys.spi_i, keys.spi_r),
        "SK_ei and SK_er, including the salt,": (encryption, keys.ei, keys.er),
        "SK_ai and SK_ar": (integrity_key_size(keys.integrity), keys.ai, keys.ar),
    }
    for name, (size, *values) in expected.items():
        for value in values:
            if len(value) != size:
                raise ConfigurationError(f"{name} must have {size} bytes here, not {len(value)}")
    return keys


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
