"""The grammar of proposals: strongSwan's keywords joined by `-`, such as `aes256gcm16-prfsha384-x25519`.

A proposal lists algorithms of each transform type in order of preference (RFC 7296, 3.3). Several algorithms of one type are
alternatives: `aes256-aes128-sha256-modp2048` offers two ciphers. `parse_proposal` accepts strongSwan's other spellings
(`aes256gcm128`, `sha2_256`, `curve25519`) and `Algorithms.keywords` gives the canonical one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

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
ESN = ("esn", "noesn")
NONE = "none"  # `ke1_none`: the additional key exchange may be omitted
MAX_ADDITIONAL = 7  # additional key exchanges, ke1_ to ke7_ (RFC 9370)

_ICV_BITS = {"64": "8", "96": "12", "128": "16", "": "16"}
ALIASES = {
    "curve25519": "x25519", "curve448": "x448", "aes": "aes128", "camellia": "camellia128", "blowfish": "blowfish128",
    "sha": "sha1", "sha2_256": "sha256", "sha2_384": "sha384", "sha2_512": "sha512", "sha2_256_96": "sha256_96",
    **{
        f"aes{bits}{mode}{icv}": f"aes{bits}{mode}{octets}"
        for bits in (128, 192, 256) for mode in ("gcm", "ccm") for icv, octets in _ICV_BITS.items()
    },
}  # fmt: skip

_FORMER = {"kyber1": "mlkem512", "kyber3": "mlkem768", "kyber5": "mlkem1024", "tripledes": "3des"}
# Names of key exchanges before FIPS 203, and by their numbers (IANA, transform type 4)
_GROUP_NUMBERS = {
    "2": "modp1024", "5": "modp1536", "14": "modp2048", "15": "modp3072", "16": "modp4096", "17": "modp6144", "18": "modp8192",
    "19": "ecp256", "20": "ecp384", "21": "ecp521", "22": "modp1024s160", "23": "modp2048s224", "24": "modp2048s256",
    "27": "ecp224bp", "28": "ecp256bp", "29": "ecp384bp", "30": "ecp512bp", "31": "x25519", "32": "x448",
}  # fmt: skip
_TYPES = _ENCRYPTION, _INTEGRITY, _PRF, _KEY_EXCHANGE, _ESN = "encryption", "integrity", "prf", "key_exchange", "esn"
_TYPE_OF = {
    **dict.fromkeys((*AEAD_CIPHERS, *CIPHERS), _ENCRYPTION),
    **dict.fromkeys(INTEGRITIES, _INTEGRITY),
    **dict.fromkeys(PRFS, _PRF),
    **dict.fromkeys(GROUPS, _KEY_EXCHANGE),
    **dict.fromkeys(ESN, _ESN),
}


@dataclass(frozen=True, slots=True)
class Algorithms:
    """The algorithms of one proposal by transform type, each in order of preference.

    `additional_key_exchanges` holds those of ke1_, ke2_, ... (RFC 9370). `esn` holds `esn` and `noesn`; empty: not stated.
    """

    encryption: tuple[str, ...]
    integrity: tuple[str, ...] = ()
    prf: tuple[str, ...] = ()
    key_exchange: tuple[str, ...] = ()
    additional_key_exchanges: tuple[tuple[str, ...], ...] = ()
    esn: tuple[str, ...] = ()

    @property
    def is_aead(self) -> bool:
        """Whether the ciphers authenticate as well as encrypt, so that no integrity algorithm is needed."""
        return self.encryption[0] in AEAD_CIPHERS

    @property
    def names(self) -> tuple[str, ...]:
        """Every algorithm by its canonical name, with `ke1_` to `ke7_`, `esn` and `noesn`: what `warren_ikev2` receives."""
        additional = (f"ke{n}_{it}" for n, them in enumerate(self.additional_key_exchanges, 1) for it in them)
        return (*self.encryption, *self.integrity, *self.prf, *self.key_exchange, *additional, *self.esn)

    @property
    def keywords(self) -> str:
        """The canonical spelling."""
        return "-".join(self.names)

    def __str__(self) -> str:
        return self.keywords

    def __iter__(self) -> Iterator[str]:
        """Every algorithm once, without the sequence numbers."""
        yield from (*self.encryption, *self.integrity, *self.prf, *self.key_exchange)
        yield from (it for them in self.additional_key_exchanges for it in them if it != NONE)


def parse_proposal(text: str) -> Algorithms:
    """Parse a proposal.

    Raises:
        ValueError: an unknown or repeated keyword, no cipher, AEADs mixed with other ciphers, a cipher without integrity
            algorithm, an AEAD with one, or a gap in the additional key exchanges. The message names the keyword.
    """
    found: dict[str, list[str]] = {}
    for raw in text.strip().lower().split("-"):
        kind, word = _classify(raw, text)
        if word in found.setdefault(kind, []):
            raise ValueError(f"proposal {text!r} has {raw!r} twice")
        found[kind].append(word)
    if _ENCRYPTION not in found:
        raise ValueError(f"proposal {text!r} has no encryption algorithm")
    encryption, integrity, prf, key_exchange, esn = (tuple(found.get(kind, ())) for kind in _TYPES)
    algorithms = Algorithms(encryption, integrity, prf, key_exchange, _additional(found, text), esn)
    _check_integrity(algorithms)
    return algorithms


def _classify(raw: str, text: str) -> tuple[str, str]:
    """The transform type of a keyword and its canonical spelling."""
    number, separator, rest = raw.partition("_")
    if separator and len(number) == 3 and number.startswith("ke") and number[2] in "1234567":
        group = ALIASES.get(rest, rest)
        if group in GROUPS or group == NONE:
            return number, group
    word = ALIASES.get(raw, raw)
    if word not in _TYPE_OF:
        raise ValueError(f"unknown keyword {raw!r} in proposal {text!r}{_meant(raw, text)}")
    return _TYPE_OF[word], word


def _meant(raw: str, text: str) -> str:
    """What an unknown keyword stands for elsewhere."""
    prefix, separator, word = raw.rpartition("_") if raw.startswith("ke") else ("", "", raw)
    if word == "default":
        return ": omit the list to use the proposals of the profile"
    if word in _FORMER:
        return f": write {prefix}{separator}{_FORMER[word]}"
    number = word.removeprefix("group").removeprefix("dh")
    if number in _GROUP_NUMBERS and number != word:
        return f": write {_GROUP_NUMBERS[number]}"
    if re.search(r"aes-(?:128|192|256)(?:-|$)", text.lower()):
        return ": a key length follows its cipher without a hyphen, such as aes256gcm16 or aes256"
    from difflib import get_close_matches  # only for a message

    close = get_close_matches(word, [*_TYPE_OF, *ALIASES], 1)
    return f": did you mean {prefix}{separator}{ALIASES.get(close[0], close[0])}?" if close else ""


def _additional(found: dict[str, list[str]], text: str) -> tuple[tuple[str, ...], ...]:
    lists = [tuple(found.get(f"ke{n}", ())) for n in range(1, MAX_ADDITIONAL + 1)]
    used = sum(map(bool, lists))
    if not all(lists[:used]):
        missing = next(n for n, them in enumerate(lists, 1) if not them)
        raise ValueError(f"proposal {text!r} has additional key exchanges without ke{missing}_: number them from ke1_")
    return tuple(lists[:used])


def _check_integrity(algorithms: Algorithms) -> None:
    kinds = {word in AEAD_CIPHERS for word in algorithms.encryption}
    if len(kinds) > 1:
        words = ", ".join(algorithms.encryption)
        raise ValueError(f"{words}: AEADs and other ciphers require separate proposals (RFC 7296, 3.3)")
    if algorithms.is_aead and algorithms.integrity:
        raise ValueError(
            f"{algorithms.encryption[0]} is an AEAD and takes no integrity algorithm: remove {algorithms.integrity[0]}"
            + _prf_instead(algorithms)
        )
    without = [word for word in algorithms.encryption if word not in AEAD_CIPHERS and not word.endswith("gmac")]
    if without and not algorithms.integrity:
        raise ValueError(f"{without[0]} requires an integrity algorithm, such as sha256")


def _prf_instead(algorithms: Algorithms) -> str:
    """Many write the hash of a proposal for IKE and mean its PRF."""
    instead = f"prf{algorithms.integrity[0]}"
    return f", or write {instead} (of an IKE proposal)" if not algorithms.prf and instead in PRFS else ""
