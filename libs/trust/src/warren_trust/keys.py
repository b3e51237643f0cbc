"""Keys as files: Ed25519 seeds in NATS's nkey text form (https://github.com/nats-io/nkeys, README "Seed").

An nkey is base32 (RFC 4648, no padding) over a kind byte, 32 bytes, and a little-endian CRC-16/XMODEM. Bus users are `U`,
the account key that the server trusts as issuer of users is `A`. Warren's own signing keys are `W`, a letter that NATS
does not use, so that neither is accepted as the other.
"""

import base64
import binascii
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from pathlib import Path

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from warren_contracts.documents import SignerRole
from warren_process.atomic_file import sync_folder, write_atomically
from warren_trust.errors import InvalidKeyError, InvalidSignatureError

MAX_SEED_FILE = 256  # bytes; an encoded seed has 58
_SEED_KIND = 18 << 3  # the letter S


class KeyKind(Enum):
    """The first letter of a public key, shifted as nkeys do."""

    USER = 20 << 3  # U: a user of the bus
    ACCOUNT = 0  # A: issues users
    SIGNING = 22 << 3  # W: signs Warren's documents
    CURVE = 23 << 3  # X: seals (X25519)


BUS_USERS = ("callout", "registry", "policy", "metrics", "api", "streams")
CALLERS = ("registry", "policy", "metrics", "api")  # services that call others
SIGNING_KEYS = {
    "policy-signing": SignerRole.POLICY,
    "registry-signing": SignerRole.REGISTRY,
    "root": SignerRole.ROOT,
}
ISSUER = "issuer"
XKEY = "callout-xkey"
KEY_KINDS: dict[str, KeyKind] = {
    **dict.fromkeys(BUS_USERS, KeyKind.USER),
    ISSUER: KeyKind.ACCOUNT,
    **dict.fromkeys(SIGNING_KEYS, KeyKind.SIGNING),
}


def _encode(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise InvalidKeyError("not an nkey: characters other than A-Z and 2-7") from None
    if len(raw) < 3 or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise InvalidKeyError("not an nkey: the checksum does not match")
    return raw[:-2]


def encode_public(kind: KeyKind, raw: bytes) -> str:
    """The text form of a 32-byte public key."""
    return _encode(bytes([kind.value]) + raw)


def decode_public(text: str, kind: KeyKind) -> bytes:
    """The 32 bytes of a public key in text form; raises InvalidKeyError when it is of another kind."""
    raw = _decode(text)
    if len(raw) != 33 or raw[0] != kind.value:
        raise InvalidKeyError(f"not a public key of the kind {kind.name.lower()}")
    return raw[1:]


class KeyPair:
    """An Ed25519 key pair of one kind. The seed is never in a repr; `seed` is for writing its file."""

    def __init__(self, kind: KeyKind, raw_seed: bytes) -> None:
        self.kind = kind
        self.signing_key = SigningKey(raw_seed)

    @classmethod
    def generate(cls, kind: KeyKind) -> "KeyPair":
        return cls(kind, os.urandom(32))

    @classmethod
    def from_seed(cls, text: str, kind: KeyKind | None = None) -> "KeyPair":
        """Read the text form of a seed; raises InvalidKeyError when it is malformed or not of `kind`."""
        raw = _decode(text.strip())
        if len(raw) != 34 or raw[0] & 0xF8 != _SEED_KIND:
            raise InvalidKeyError("not the seed of an nkey")
        value = ((raw[0] & 0x07) << 5) | (raw[1] >> 3)
        known = {member.value: member for member in KeyKind}
        if value not in known or (kind is not None and known[value] is not kind):
            wanted = kind.name.lower() if kind else "known"
            raise InvalidKeyError(f"the seed is not of the kind {wanted}")
        return cls(known[value], raw[2:])

    @property
    def seed(self) -> str:
        head = bytes([_SEED_KIND | (self.kind.value >> 5), (self.kind.value & 0x1F) << 3])
        return _encode(head + bytes(self.signing_key))

    @cached_property
    def public(self) -> str:
        """The text form of the public key."""
        return encode_public(self.kind, bytes(self.signing_key.verify_key))

    @property
    def public_base64(self) -> str:
        """The raw public key as `warren_contracts.names.PublicKey` writes it."""
        return base64.b64encode(bytes(self.signing_key.verify_key)).decode()

    def sign(self, message: bytes) -> bytes:
        """A detached signature of 64 bytes."""
        return self.signing_key.sign(message).signature

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"


def call_key(user: KeyPair) -> KeyPair:
    """The key by which a service signs its calls, derived from the seed of its bus user.

    Not that key itself: it signs whatever nonce a server sends, which could have the form of a call.
    """
    seed = hashlib.blake2b(bytes(user.signing_key), digest_size=32, person=b"warren-call-v1").digest()
    return KeyPair(KeyKind.SIGNING, seed)


def box_seed(issuer: KeyPair) -> bytes:
    """The private key (X25519) of the callout's box, derived from the issuer's seed, which callouts have and nobody else."""
    return hashlib.blake2b(bytes(issuer.signing_key), digest_size=32, person=b"warren-xkey-v1").digest()


def caller_keys(public: Mapping[str, str]) -> dict[str, str]:
    """The public keys of the services' calls by service, of what `create_keys` returns."""
    return {name: public[f"{name}-call"] for name in CALLERS}


def verify(raw_public: bytes, message: bytes, signature: bytes) -> None:
    """Verify a detached signature; raises InvalidSignatureError."""
    try:
        VerifyKey(raw_public).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        raise InvalidSignatureError from None


def raw_public_key(text: str) -> bytes:
    """The 32 bytes of a `PublicKey` (base64); raises InvalidKeyError."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKeyError("not base64") from None
    if len(raw) != 32:
        raise InvalidKeyError("a public key has 32 bytes")
    return raw


def write_seed(path: Path, pair: KeyPair) -> None:
    """Write a seed to a new file of mode 0600; FileExistsError when there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(pair.seed + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def read_seed(path: Path, kind: KeyKind) -> KeyPair:
    """Read a seed file; raises InvalidKeyError when it is missing, open to group or others, or not of `kind`."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(MAX_SEED_FILE + 1)
    except OSError as error:
        raise InvalidKeyError(f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise InvalidKeyError(f"{path} has mode {mode:04o}: a key file must be 0600")
    try:
        return KeyPair.from_seed(text.decode("ascii"), kind)
    except (InvalidKeyError, UnicodeDecodeError) as error:
        raise InvalidKeyError(f"{path}: {error}") from None


def create_keys(folder: Path) -> dict[str, str]:
    """Create the missing keys of the stack in `folder` (mode 0700) and return the public halves by name.

    Seeds are in `<name>.seed` (0600). Bus users and the issuer are named by their nkey, signing keys by base64, as the server's
    configuration and the trust document require, `<name>-call` is the key of a service's calls, and XKEY that of the callout's box.
    `public.json` holds the same.
    Existing keys stay.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    public: dict[str, str] = {}
    for name, kind in KEY_KINDS.items():
        path = folder / f"{name}.seed"
        if not path.exists():
            write_seed(path, KeyPair.generate(kind))
        pair = read_seed(path, kind)
        public[name] = pair.public_base64 if kind is KeyKind.SIGNING else pair.public
        if name in CALLERS:
            public[f"{name}-call"] = call_key(pair).public_base64
        if name == ISSUER:
            public[XKEY] = encode_public(KeyKind.CURVE, crypto_scalarmult_base(box_seed(pair)))
    write_atomically(folder / "public.json", (json.dumps(public, indent=2) + "\n").encode(), mode=0o644)
    return public
