"""Passwords as salted scrypt verifiers (RFC 7914), and the NT hash for MSCHAPv2. Pure: the caller passes the salt.

A verifier proves a password and does not reveal it: with the parameters here a guess costs 32 MiB and about 60 ms of a core.
The NT hash is the opposite: MD4 without salt, and anybody who has it can log in by MSCHAPv2.
"""

import hashlib
import hmac
import unicodedata
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_serializer, field_validator, model_validator

from warren_contracts.base import Input
from warren_ikev2.auth.mschapv2 import password_hash

MIN_LENGTH = 12  # characters: NIST SP 800-63B asks for 8 with a limit of attempts; a VPN is reachable by everyone
MAX_LENGTH = 256  # characters, which EAP's packets hold in any script
SALT_SIZE = 16
_DIGEST_SIZE = 32
_N, _R, _P = 2**15, 8, 1  # OWASP's and RFC 7914's parameters for logins that nobody waits for: 32 MiB
_MAX_MEMORY = 64 << 20


class PasswordVerifier(Input):
    """What is stored of a password: scrypt's parameters, salt and digest."""

    kind: Literal["scrypt"] = "scrypt"
    n: Annotated[int, Field(ge=2**14, le=2**15, strict=True)]
    r: Annotated[int, Field(ge=8, le=8, strict=True)]
    p: Annotated[int, Field(ge=1, le=4, strict=True)]
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    digest: SecretStr
    """Hexadecimal; it is not a password, but what guesses are compared with."""

    @model_validator(mode="after")
    def _power_of_two(self) -> Self:
        if self.n & (self.n - 1):
            raise ValueError("n must be a power of two")
        return self

    @field_validator("digest")
    @classmethod
    def _digest(cls, value: SecretStr) -> SecretStr:
        return _hexadecimal(value, _DIGEST_SIZE)

    @field_serializer("digest", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()  # JSON is the user file, and only that

    def accepts(self, password: str) -> bool:
        """Whether it is the password. Takes 50 ms and more, and 32 MiB; the comparison takes the same time for any guess."""
        found = _digest(password, self.salt, self.n, self.r, self.p)
        return hmac.compare_digest(found, self.digest.get_secret_value())


class NtHash(Input):
    """MD4 of a password (RFC 2759, 8.3): as good as the password itself."""

    value: SecretStr

    @field_validator("value")
    @classmethod
    def _size(cls, value: SecretStr) -> SecretStr:
        return _hexadecimal(value, 16)

    @field_serializer("value", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()

    @property
    def hash(self) -> bytes:
        """The 16 bytes."""
        return bytes.fromhex(self.value.get_secret_value())


def make_verifier(password: str, salt: bytes) -> PasswordVerifier:
    """Derive the verifier of a password. ValueError: too short, too long, or with control characters."""
    check_password(password)
    text = salt.hex()
    return PasswordVerifier(n=_N, r=_R, p=_P, salt=text, digest=SecretStr(_digest(password, text, _N, _R, _P)))


def make_nt_hash(password: str) -> NtHash:
    """Compute the NT hash of a password."""
    return NtHash(value=SecretStr(password_hash(password).hex()))


def dummy_verifier(salt: bytes) -> PasswordVerifier:
    """A verifier that accepts no password: for users that do not exist, so that they take as long as others."""
    return PasswordVerifier(n=_N, r=_R, p=_P, salt=salt.hex(), digest=SecretStr(bytes(_DIGEST_SIZE).hex()))


def check_password(password: str) -> None:
    """ValueError with the remedy: too short, too long, or with control characters, which not every client can send."""
    if len(password) < MIN_LENGTH:
        raise ValueError(f"password: must have at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise ValueError(f"password: must have at most {MAX_LENGTH} characters")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Cn") for c in password):
        raise ValueError("password: must not have control characters")
    if len(set(password)) < 4:
        raise ValueError("password: must have at least 4 different characters")


def _digest(password: str, salt: str, n: int, r: int, p: int) -> str:
    """Clients type the same character in several ways: NFC makes them one (RFC 8265, OpaqueString)."""
    normal = unicodedata.normalize("NFC", password).encode("utf-8", "replace")
    return hashlib.scrypt(
        normal, salt=bytes.fromhex(salt), n=n, r=r, p=p, maxmem=_MAX_MEMORY * p, dklen=_DIGEST_SIZE
    ).hex()


def _hexadecimal(value: SecretStr, size: int) -> SecretStr:
    try:
        valid = len(bytes.fromhex(value.get_secret_value())) == size
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"must be {size} bytes in hexadecimal")
    return value
