"""strongswan.conf as text, for one charon of the lab. Pure."""

from collections.abc import Mapping
from enum import StrEnum

Settings = Mapping[str, "str | Settings"]

# In the order of strongSwan's own default: of two plugins with one algorithm the first is used, and the AES of `aes` and the GCM of
# `gcm`, which are plain C, carry a fiftieth of what those of aesni and openssl do.
CRYPTO_PLUGINS = (
    "aesni random nonce drbg openssl aes sha1 sha2 md5 mgf1 hmac kdf fips-prf cmac xcbc ctr ccm gcm chapoly curve25519 gmp "
    "x509 revocation constraints pubkey pkcs1 pkcs7 pkcs8 pkcs12 pem addrblock "
    "eap-identity eap-mschapv2 eap-md5 eap-tls eap-ttls"
)
DAEMON_PLUGINS = "socket-default vici updown error-notify counters"


class IpsecBackend(StrEnum):
    """Where ESP happens. The value is what charon loads for it, in this order."""

    LIBIPSEC = "kernel-libipsec kernel-netlink"
    """In the daemon, over a TUN device: for kernels without ESP."""
    KERNEL = "kernel-netlink"
    """In the kernel (XFRM), as on a production gateway."""


def charon_settings(plane: IpsecBackend = IpsecBackend.LIBIPSEC, extra: Settings | None = None) -> Settings:
    """Settings of one charon; `extra` is merged over them, section by section.

    The log and the sockets keep the names that Debian's AppArmor profile allows (/run/charon.*).
    """
    own: Settings = {
        "charon": {
            "load_modular": "no",
            "load": f"{CRYPTO_PLUGINS} {plane} {DAEMON_PLUGINS}",
            # Half-open limits per address would refuse a test that opens many tunnels from one address.
            "dos_protection": "no",
            # Each blocking VICI command holds a thread; the default of 16 can freeze the daemon.
            "threads": "32",
            "make_before_break": "yes",
            "filelog": {
                "warren": {"path": "/run/charon.log", "default": "1", "flush_line": "yes", "time_format": "%FT%T"}
            },
        }
    }
    return own if extra is None else _merge(own, extra)


def needs_tun(settings: Settings) -> bool:
    """Whether this charon opens /dev/net/tun."""
    return IpsecBackend.LIBIPSEC in render(settings)


def render(settings: Settings, depth: int = 0) -> str:
    """The text of strongswan.conf: one key or brace a line (its parser refuses a section on one line)."""
    indent = "  " * depth
    lines = []
    for key, value in settings.items():
        if isinstance(value, str):
            lines.append(f"{indent}{key} = {value}\n")
        else:
            lines.append(f"{indent}{key} {{\n{render(value, depth + 1)}{indent}}}\n")
    return "".join(lines)


def _merge(own: Settings, extra: Settings) -> Settings:
    """`extra` over `own`, recursively."""
    merged = dict(own)
    for key, value in extra.items():
        before = merged.get(key)
        if isinstance(value, str) or before is None or isinstance(before, str):
            merged[key] = value
        else:
            merged[key] = _merge(before, value)
    return merged
