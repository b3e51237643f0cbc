"""Proposals in strongSwan's keywords: `aes256gcm16-prfsha384-x25519`.

The supported keywords are the tables below; what a profile recommends or forbids is decided in `warren_intent`.
"""

from typing import Any

from pydantic import ConfigDict, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from warren_contracts.base import Document

AEAD_CIPHERS = (
    *(f"aes{bits}gcm{icv}" for bits in (128, 192, 256) for icv in (8, 12, 16)),
    *(f"aes{bits}ccm{icv}" for bits in (128, 192, 256) for icv in (8, 12, 16)),
    "chacha20poly1305",
)
CIPHERS = (
    *(f"aes{bits}" for bits in (128, 192, 256)),
    *(f"aes{bits}ctr" for bits in (128, 192, 256)),
    "camellia128", "camellia192", "camellia256", "3des", "des", "null", "cast128", "blowfish128", "blowfish256",
    "aes128gmac", "aes192gmac", "aes256gmac",
)  # fmt: skip
INTEGRITIES = ("sha256", "sha384", "sha512", "sha1", "md5", "aesxcbc", "aescmac", "sha256_96", "sha1_160", "md5_128")
PRFS = ("prfsha256", "prfsha384", "prfsha512", "prfsha1", "prfmd5", "prfaesxcbc", "prfaescmac")
GROUPS = (
    "x25519", "x448", "ecp256", "ecp384", "ecp521", "ecp192", "ecp224", "ecp224bp", "ecp256bp", "ecp384bp", "ecp512bp",
    "modp768", "modp1024", "modp1536", "modp2048", "modp3072", "modp4096", "modp6144", "modp8192",
    "modp1024s160", "modp2048s224", "modp2048s256", "mlkem512", "mlkem768", "mlkem1024",
)  # fmt: skip
_ALIASES = {"curve25519": "x25519", "curve448": "x448", "aes": "aes128", "aes128gcm": "aes128gcm16"}
_ADDITIONAL = tuple(f"ke{n}_" for n in range(1, 8))


class CryptoProposal(Document):
    """One proposal for an IKE_SA or a CHILD_SA. Written as its keywords; readable by field.

    Raises ValueError (by pydantic) for an unknown keyword, for a cipher without integrity that is not an AEAD, and for an AEAD
    with an integrity algorithm (RFC 7296, 3.3: the two kinds never share a proposal).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encryption: str
    integrity: str | None = None
    prf: str | None = None
    key_exchange: str | None = None
    additional_key_exchanges: tuple[str, ...] = ()  # RFC 9370, in order: ke1_, ke2_, ...
    esn: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_keywords(cls, value: Any) -> Any:
        return parse_proposal(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> "CryptoProposal":
        if self.is_aead and self.integrity is not None:
            raise ValueError(f"{self.encryption} is an AEAD and takes no integrity algorithm: remove {self.integrity}")
        if not self.is_aead and not self.encryption.endswith("gmac") and self.integrity is None:
            raise ValueError(f"{self.encryption} requires an integrity algorithm, such as sha256")
        return self

    @model_serializer
    def _to_keywords(self) -> str:
        return self.keywords

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # In JSON a proposal is the string of its keywords.
        return {
            "title": "CryptoProposal", "type": "string", "examples": ["aes256gcm16-prfsha384-x25519"],
            "description": "One proposal for an IKE_SA or a CHILD_SA, in strongSwan's keywords joined by `-`.",
        }  # fmt: skip

    @property
    def is_aead(self) -> bool:
        return self.encryption in AEAD_CIPHERS

    @property
    def keywords(self) -> str:
        """The proposal as strongSwan writes it."""
        additional = (f"ke{n}_{group}" for n, group in enumerate(self.additional_key_exchanges, start=1))
        esn = None if self.esn is None else ("esn" if self.esn else "noesn")
        words = (self.encryption, self.integrity, self.prf, self.key_exchange, *additional, esn)
        return "-".join(word for word in words if word)

    def __str__(self) -> str:
        return self.keywords


def parse_proposal(text: str) -> dict[str, Any]:
    """Parse the keywords of a proposal; the ValueError names an unknown keyword."""
    fields: dict[str, Any] = {}
    additional: list[str] = []
    for raw in text.strip().lower().split("-"):
        word = _ALIASES.get(raw, raw)
        if word.startswith(_ADDITIONAL) and word[4:] in GROUPS:
            additional.append(word[4:])
            continue
        field = _field_of(word)
        if field is None:
            raise ValueError(f"unknown keyword {raw!r} in proposal {text!r}")
        if field in fields:
            raise ValueError(
                f"proposal {text!r} has a second {field.replace('_', ' ')} {raw!r}: write one proposal for each"
            )
        fields[field] = word == "esn" if field == "esn" else word
    if "encryption" not in fields:
        raise ValueError(f"proposal {text!r} has no encryption algorithm")
    return fields | {"additional_key_exchanges": tuple(additional)}


def _field_of(word: str) -> str | None:
    tables = (
        ("encryption", (*AEAD_CIPHERS, *CIPHERS)),
        ("integrity", INTEGRITIES),
        ("prf", PRFS),
        ("key_exchange", GROUPS),
        ("esn", ("esn", "noesn")),
    )
    return next((field for field, words in tables if word in words), None)
