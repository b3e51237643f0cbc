"""The MODP groups (RFC 3526), in a module of their own because the library plans to remove finite-field Diffie-Hellman.

The library warns when its names are looked up; the warning is suppressed only here.
"""

import warnings
from functools import cache

from warren_ikev2.constants import KeGroup

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cryptography.hazmat.primitives.asymmetric import dh

    _ParameterNumbers = dh.DHParameterNumbers
    _PublicNumbers = dh.DHPublicNumbers
    _Parameters = dh.DHParameters
    _PrivateKey = dh.DHPrivateKey

_GENERATOR = 2
# RFC 3526: 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) * pi) + k)
_SIZES_AND_OFFSETS = {
    KeGroup.MODP_2048: (2048, 124476),
    KeGroup.MODP_3072: (3072, 1690314),
    KeGroup.MODP_4096: (4096, 240904),
}


class ModpExchange:
    """One private key."""

    def __init__(self, group: KeGroup) -> None:
        self._group = group
        self._key = _parameters(group).generate_private_key()
        self.public = self._key.public_key().public_numbers().y.to_bytes(modulus_size(group), "big")

    def shared(self, peer: bytes) -> bytes:
        """g^ir, as long as the modulus (RFC 7296, 2.14); ValueError: not a usable public key."""
        if len(peer) != modulus_size(self._group):
            raise ValueError("public key of a wrong length")
        value, modulus = int.from_bytes(peer, "big"), prime(self._group)
        if not 1 < value < modulus - 1:  # RFC 6989, 2.1
            raise ValueError("degenerate public key")
        numbers = _PublicNumbers(value, _ParameterNumbers(modulus, _GENERATOR))
        return self._key.exchange(numbers.public_key())


def modulus_size(group: KeGroup) -> int:
    """Bytes of the modulus."""
    return _SIZES_AND_OFFSETS[group][0] // 8


@cache
def prime(group: KeGroup) -> int:
    """The safe prime of a group."""
    bits, offset = _SIZES_AND_OFFSETS[group]
    return (1 << bits) - (1 << (bits - 64)) - 1 + (1 << 64) * (_pi(bits - 130) + offset)


@cache
def _parameters(group: KeGroup) -> "_Parameters":
    return _ParameterNumbers(prime(group), _GENERATOR).parameters()


def _pi(bits: int) -> int:
    """floor(2^bits * pi), by Machin's formula with guard bits."""
    guard = 64
    one = 1 << (bits + guard)
    return (4 * (4 * _arctan_inverse(5, one) - _arctan_inverse(239, one))) >> guard


def _arctan_inverse(x: int, one: int) -> int:
    total = term = one // x
    square, divisor, sign = x * x, 1, 1
    while term:
        term //= square
        divisor, sign = divisor + 2, -sign
        total += sign * (term // divisor)
    return total
