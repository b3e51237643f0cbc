"""Transforms of IKEv2 and their names: strongSwan's, each algorithm under one (IANA, "IKEv2 Parameters").

`ALGORITHMS` are those that the engine negotiates. `LEGACY` are those that it can only ask for and name: a probe offers them on
request, a decoded message shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from warren_ikev2.constants import Encr, Esn, Integ, KeGroup, Prf, TransformType

ADDITIONAL_KE_TYPES = tuple(TransformType(number) for number in range(TransformType.ADDKE1, TransformType.ADDKE7 + 1))
_LENGTHS = (128, 192, 256)


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm of a proposal; numbers that we do not know stay plain integers."""

    type: int
    id: int
    key_length: int | None = None
    """Bits, for ciphers with a variable key length (RFC 7296, 3.3.5); None: the attribute is absent."""
    unknown_attributes: bool = False
    """A peer's transform with attributes that we do not know: never chosen (RFC 7296, 3.3.6)."""


_ENCRYPTION = {
    **{f"aes{bits}": Transform(TransformType.ENCR, Encr.AES_CBC, bits) for bits in (128, 192, 256)},
    **{f"aes{bits}gcm16": Transform(TransformType.ENCR, Encr.AES_GCM_16, bits) for bits in (128, 192, 256)},
    "chacha20poly1305": Transform(TransformType.ENCR, Encr.CHACHA20_POLY1305),
}
_INTEGRITY = {
    "sha256": Integ.HMAC_SHA2_256_128,
    "sha384": Integ.HMAC_SHA2_384_192,
    "sha512": Integ.HMAC_SHA2_512_256,
}
_PRF = {"prfsha256": Prf.HMAC_SHA2_256, "prfsha384": Prf.HMAC_SHA2_384, "prfsha512": Prf.HMAC_SHA2_512}
_GROUPS = {
    "modp2048": KeGroup.MODP_2048,
    "modp3072": KeGroup.MODP_3072,
    "modp4096": KeGroup.MODP_4096,
    "ecp256": KeGroup.ECP_256,
    "ecp384": KeGroup.ECP_384,
    "ecp521": KeGroup.ECP_521,
    "ecp256bp": KeGroup.BRAINPOOL_P256R1,
    "ecp384bp": KeGroup.BRAINPOOL_P384R1,
    "ecp512bp": KeGroup.BRAINPOOL_P512R1,
    "x25519": KeGroup.X25519,
    "x448": KeGroup.X448,
    "mlkem768": KeGroup.ML_KEM_768,
    "mlkem1024": KeGroup.ML_KEM_1024,
}
ALGORITHMS: Mapping[str, Transform] = MappingProxyType(
    {
        **_ENCRYPTION,
        **{name: Transform(TransformType.INTEG, number) for name, number in _INTEGRITY.items()},
        **{name: Transform(TransformType.PRF, number) for name, number in _PRF.items()},
        **{name: Transform(TransformType.KE, number) for name, number in _GROUPS.items()},
        **{
            f"ke{index}_{name}": Transform(kind, number)
            for index, kind in enumerate(ADDITIONAL_KE_TYPES, 1)
            for name, number in {**_GROUPS, "none": KeGroup.NONE}.items()
        },
        "esn": Transform(TransformType.ESN, Esn.YES),
        "noesn": Transform(TransformType.ESN, Esn.NO),
    }
)
"""Every algorithm that a proposal may offer, by its name."""

_LEGACY_ENCRYPTION = {
    "des": Transform(TransformType.ENCR, 2),
    "3des": Transform(TransformType.ENCR, 3),
    "cast128": Transform(TransformType.ENCR, 6, 128),
    **{f"blowfish{bits}": Transform(TransformType.ENCR, 7, bits) for bits in _LENGTHS},
    "null": Transform(TransformType.ENCR, 11),
    **{f"aes{bits}ctr": Transform(TransformType.ENCR, 13, bits) for bits in _LENGTHS},
    **{
        f"aes{bits}{mode}{octets}": Transform(TransformType.ENCR, number, bits)
        for mode, octets, number in (("ccm", 8, 14), ("ccm", 12, 15), ("ccm", 16, 16), ("gcm", 8, 18), ("gcm", 12, 19))
        for bits in _LENGTHS
    },
    **{f"aes{bits}gmac": Transform(TransformType.ENCR, 21, bits) for bits in _LENGTHS},
    **{f"camellia{bits}": Transform(TransformType.ENCR, 23, bits) for bits in _LENGTHS},
    **{f"camellia{bits}ctr": Transform(TransformType.ENCR, 24, bits) for bits in _LENGTHS},
}
_LEGACY_INTEGRITY = {"md5": 1, "sha1": 2, "aesxcbc": 5, "md5_128": 6, "sha1_160": 7, "aescmac": 8}
_LEGACY_PRF = {"prfmd5": 1, "prfsha1": 2, "prfaesxcbc": 4, "prfaescmac": 8}
_LEGACY_GROUPS = {
    "modp768": 1, "modp1024": 2, "modp1536": 5, "modp6144": 17, "modp8192": 18, "modp1024s160": 22, "modp2048s224": 23,
    "modp2048s256": 24, "ecp192": 25, "ecp224": 26, "ecp224bp": 27, "mlkem512": 35,
}  # fmt: skip
LEGACY: Mapping[str, Transform] = MappingProxyType(
    {
        **_LEGACY_ENCRYPTION,
        **{name: Transform(TransformType.INTEG, number) for name, number in _LEGACY_INTEGRITY.items()},
        **{name: Transform(TransformType.PRF, number) for name, number in _LEGACY_PRF.items()},
        **{name: Transform(TransformType.KE, number) for name, number in _LEGACY_GROUPS.items()},
        **{
            f"ke{index}_{name}": Transform(kind, number)
            for index, kind in enumerate(ADDITIONAL_KE_TYPES, 1)
            for name, number in _LEGACY_GROUPS.items()
        },
    }
)
"""Algorithms that the engine does not compute, by their names."""

NAMES: Mapping[Transform, str] = MappingProxyType(
    {transform: name for name, transform in {**LEGACY, **ALGORITHMS}.items()}
    | {Transform(TransformType.ENCR, Encr.CHACHA20_POLY1305, 256): "chacha20poly1305"}  # its only key length, stated
)


def name_of(transform: Transform) -> str:
    """The name of a transform; `type:id`, with `/bits` where a key length is stated, for one that has none."""
    bits = "" if transform.key_length is None else f"/{transform.key_length}"
    return NAMES.get(transform, f"{transform.type}:{transform.id}{bits}")
