"""What a charon can express: by its version, its plugins and its algorithms. Pure tables.

Options that a version lacks are refused by charon as "unknown option: X, config discarded" or "invalid value for: X";
these tables refuse them before anything is sent, and say which field it was.
"""

import re
from dataclasses import dataclass
from itertools import takewhile

from warren_agent.drivers.strongswan.vici_codec import Section, subsections, text, texts
from warren_contracts.peers import DriverCapabilities
from warren_contracts.proposals import AEAD_CIPHERS, CIPHERS, GROUPS, INTEGRITIES, PRFS, Algorithms
from warren_contracts.status import MAX_PLUGINS

Version = tuple[int, int, int]

# The first version that knows the word (git tags of strongswan/strongswan).
SINCE: dict[str, Version] = {
    "childless-prefer": (5, 9, 10),
    "hw_offload-crypto": (5, 9, 10),
    "hw_offload-packet": (5, 9, 10),
    "additional-key-exchanges": (6, 0, 0),
    "alert": (6, 0, 3),
}
FEATURES = (
    "mobike", "fragmentation", "ppk", "childless", "vips", "several-vips", "pools", "selectors",
    "dynamic-selectors", "child-update", "dscp", "rand",
    "replay-window", "tfc", "ipcomp", "inactivity", "copy",
)  # fmt: skip
# kernel-libipsec does ESP in the daemon and can do none of these.
KERNEL_FEATURES = ("transport", "beet", "esn", "if_id", "mark", "hw_offload")

_PLUGIN = re.compile(r"[a-z0-9_-]{1,64}")
_CIPHER_NAMES = {
    "aes": "AES_CBC", "ctr": "AES_CTR", "camellia": "CAMELLIA_CBC", "3des": "3DES_CBC", "des": "DES_CBC", "null": "NULL",
    "cast128": "CAST_CBC", "blowfish": "BLOWFISH_CBC", "chacha20poly1305": "CHACHA20_POLY1305",
}  # fmt: skip
_INTEGRITY_NAMES = {
    "sha256": "HMAC_SHA2_256_128", "sha384": "HMAC_SHA2_384_192", "sha512": "HMAC_SHA2_512_256", "sha1": "HMAC_SHA1_96",
    "sha1_160": "HMAC_SHA1_160", "md5": "HMAC_MD5_96", "md5_128": "HMAC_MD5_128", "aesxcbc": "AES_XCBC_96",
    "aescmac": "AES_CMAC_96", "sha256_96": "HMAC_SHA2_256_96",
}  # fmt: skip
_PRF_NAMES = {
    "prfsha256": "PRF_HMAC_SHA2_256", "prfsha384": "PRF_HMAC_SHA2_384", "prfsha512": "PRF_HMAC_SHA2_512",
    "prfsha1": "PRF_HMAC_SHA1", "prfmd5": "PRF_HMAC_MD5", "prfaesxcbc": "PRF_AES128_XCBC", "prfaescmac": "PRF_AES128_CMAC",
}  # fmt: skip
_GROUP_NAMES = {"x25519": "CURVE_25519", "x448": "CURVE_448"}


@dataclass(frozen=True)
class CharonAbilities:
    """One charon. `algorithms` holds charon's own names; empty means that it could not be asked."""

    version: str = ""
    plugins: frozenset[str] = frozenset()
    algorithms: frozenset[str] = frozenset()
    run: str = ""  # differs for each run of the daemon

    @property
    def number(self) -> Version:
        return parse_version(self.version)

    @property
    def plugin_names(self) -> str:
        """Its plugins in order, as a heartbeat has them; names that are none are left out."""
        names = " ".join(sorted(filter(_PLUGIN.fullmatch, self.plugins)))
        return names if len(names) <= MAX_PLUGINS else names[:MAX_PLUGINS].rpartition(" ")[0]

    def knows(self, word: str) -> bool:
        """Whether this version knows a word of SINCE."""
        return self.number >= SINCE[word]

    @property
    def features(self) -> tuple[str, ...]:
        """What may be used besides algorithms."""
        kernel = () if "kernel-libipsec" in self.plugins else KERNEL_FEATURES
        return (*FEATURES, *kernel, *(word for word in SINCE if self.knows(word)))

    def missing(self, proposal: Algorithms) -> list[str]:
        """The keywords of a proposal for which this charon has no algorithm; none where it could not be asked."""
        if not self.algorithms:
            return []
        return [word for word in proposal if algorithm_name(word) not in self.algorithms]

    def document(self) -> DriverCapabilities:
        """What is announced of it in the directory."""
        offered = [w for w in (*AEAD_CIPHERS, *CIPHERS, *INTEGRITIES, *GROUPS) if algorithm_name(w) in self.algorithms]
        prfs = [word for word in PRFS if algorithm_name(word) in self.algorithms]
        return DriverCapabilities(
            kind="strongswan",
            version=self.version,
            ike=tuple(offered + prfs),
            esp=tuple(offered),
            features=self.features,
            run=self.run,
        )


def parse_version(version: str) -> Version:
    """`5.9.8`, `6.0.3rc1` and `U5.9.8/K6.1` as numbers; what is missing counts as 0."""
    digits = ["".join(takewhile(str.isdigit, part)) for part in version.lstrip("Uv").split(".")[:3]]
    numbers = [int(digit) if digit else 0 for digit in digits]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def algorithm_name(keyword: str) -> str:
    """charon's name (get-algorithms) of a proposal keyword."""
    if keyword in _INTEGRITY_NAMES:
        return _INTEGRITY_NAMES[keyword]
    if keyword in _PRF_NAMES:
        return _PRF_NAMES[keyword]
    if keyword in _GROUP_NAMES:
        return _GROUP_NAMES[keyword]
    if keyword in GROUPS:
        return _group_name(keyword)
    return _cipher_name(keyword)


def _group_name(keyword: str) -> str:
    for family in ("mlkem", "modp", "ecp"):
        if keyword.startswith(family):
            rest = keyword.removeprefix(family)
            name = {"mlkem": "ML_KEM"}.get(family, family.upper())
            return f"{name}_{rest.removesuffix('bp').replace('s', '_')}" + ("_BP" if rest.endswith("bp") else "")
    return keyword.upper()


def _cipher_name(keyword: str) -> str:
    for mode in ("gcm", "ccm"):
        if mode in keyword:
            return f"AES_{mode.upper()}_{keyword.rpartition(mode)[2]}"
    if keyword.endswith("gmac"):
        return "NULL_AES_GMAC"
    if keyword.endswith("ctr"):
        return _CIPHER_NAMES["ctr"]
    return _CIPHER_NAMES.get(keyword) or _CIPHER_NAMES.get(keyword.rstrip("0123456789"), keyword.upper())


def parse_abilities(version: Section, stats: Section, algorithms: Section, run: str) -> CharonAbilities:
    """The answers of `version`, `stats` and `get-algorithms` as one value."""
    names = (name for kind in subsections(algorithms).values() for name in kind)
    return CharonAbilities(text(version, "version"), frozenset(texts(stats, "plugins")), frozenset(names), run)
