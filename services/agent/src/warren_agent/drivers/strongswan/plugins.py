"""Which of charon's plugins provide what (docs.strongswan.org, "Plugin List"). Pure tables, for messages that say what to load."""

from collections.abc import Collection

# What the agent's own key needs: each row is one feature, and the plugins that provide it, the usual one first.
KEY_FEATURES = (
    ("curve25519", "openssl", "wolfssl", "botan"),  # Ed25519
    ("pkcs8", "openssl", "wolfssl", "botan"),
)
# The plugins of a proposal keyword, by its beginning; the longest beginning that fits counts.
ALGORITHM_PLUGINS: dict[str, tuple[str, ...]] = {
    "aes": ("aes", "openssl"),
    "camellia": ("openssl", "gcrypt"),
    "3des": ("des", "openssl"),
    "chacha20poly1305": ("chapoly", "openssl"),
    "sha1": ("sha1", "openssl"),
    "sha": ("sha2", "openssl"),
    "md5": ("md5", "openssl"),
    "aesxcbc": ("xcbc",),
    "aescmac": ("cmac",),
    "prfsha": ("hmac", "openssl"),
    "prfmd5": ("hmac", "openssl"),
    "prfaesxcbc": ("xcbc",),
    "prfaescmac": ("cmac",),
    "x25519": ("curve25519", "openssl"),
    "x448": ("openssl", "wolfssl"),
    "ecp": ("openssl", "wolfssl"),
    "modp": ("gmp", "openssl"),
    "mlkem": ("ml", "openssl"),
}
_MODES = {"gcm": ("gcm", "openssl"), "ccm": ("ccm", "openssl"), "ctr": ("ctr", "openssl"), "gmac": ("gcm", "openssl")}


def missing_for_key(loaded: Collection[str]) -> tuple[str, ...]:
    """What to load for the agent's key; nothing where the list of plugins is not known."""
    missing = (names for names in KEY_FEATURES if loaded and not {*names} & {*loaded})
    return tuple(dict.fromkeys(" or ".join(names[:2]) for names in missing))


def plugins_for(keyword: str) -> str:
    """The plugins that provide an algorithm, as a text: `chapoly or openssl`; empty for a keyword that no row has."""
    if keyword.startswith("aes"):
        names = next((names for mode, names in _MODES.items() if mode in keyword), None)
        if names is not None:
            return " or ".join(names)
    beginnings = [beginning for beginning in ALGORITHM_PLUGINS if keyword.startswith(beginning)]
    return " or ".join(ALGORITHM_PLUGINS[max(beginnings, key=len)]) if beginnings else ""
