"""Algorithms, proposals and suites.

A proposal offers one or several transforms of each type; a suite is what was chosen, one of each (RFC 7296, 3.3). Algorithms have
strongSwan's names (`aes256gcm16`, `prfsha384`, `x25519`), each one name: text such as `aes256gcm128-sha2_256` is parsed elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from warren_ikev2.algorithms import ADDITIONAL_KE_TYPES, ALGORITHMS, NAMES, Transform, name_of
from warren_ikev2.constants import Encr, Esn, Integ, KeGroup, Prf, Protocol, TransformType
from warren_ikev2.errors import ConfigurationError

AEAD = frozenset({Encr.AES_GCM_16, Encr.CHACHA20_POLY1305})


@dataclass(frozen=True, slots=True)
class Proposal:
    """The transforms of one proposal, in order of preference."""

    protocol: Protocol
    transforms: tuple[Transform, ...]
    number: int = 1
    spi: bytes = b""

    def of_type(self, kind: TransformType) -> tuple[Transform, ...]:
        """The transforms of one type, in order."""
        return tuple(transform for transform in self.transforms if transform.type == kind)

    def with_spi(self, spi: bytes, number: int | None = None) -> "Proposal":
        """The same transforms under another SPI and number."""
        return replace(self, spi=spi, number=self.number if number is None else number)

    @property
    def groups(self) -> tuple[KeGroup, ...]:
        """The key exchange groups offered (transform type 4), in order."""
        return tuple(KeGroup(t.id) for t in self.of_type(TransformType.KE) if t.id in _KNOWN_GROUPS)

    def __str__(self) -> str:
        return "-".join(name_of(transform) for transform in self.transforms)


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """The algorithms chosen for an IKE_SA."""

    encryption: Encr
    key_length: int | None
    """Bits; None for ChaCha20."""
    prf: Prf
    group: KeGroup
    integrity: Integ | None = None
    """None with an AEAD cipher."""
    additional_groups: tuple[KeGroup, ...] = ()
    """The groups of RFC 9370, in order; NONE entries left out."""

    def __str__(self) -> str:
        parts = [_encryption_name(self.encryption, self.key_length)]
        if self.integrity is not None:
            parts.append(name_of(Transform(TransformType.INTEG, self.integrity)))
        parts += [name_of(Transform(TransformType.PRF, self.prf)), group_name(self.group)]
        return "-".join(parts + _additional_names(self.additional_groups))


@dataclass(frozen=True, slots=True)
class EspSuite:
    """The algorithms chosen for a CHILD_SA."""

    encryption: Encr
    key_length: int | None
    """Bits; None for ChaCha20."""
    integrity: Integ | None = None
    """None with an AEAD cipher."""
    esn: bool = False
    group: KeGroup | None = None
    """The group of its own key exchange (PFS); None: the keys are derived only from SK_d."""
    additional_groups: tuple[KeGroup, ...] = ()

    def __str__(self) -> str:
        parts = [_encryption_name(self.encryption, self.key_length)]
        if self.integrity is not None:
            parts.append(name_of(Transform(TransformType.INTEG, self.integrity)))
        if self.group is not None:
            parts.append(group_name(self.group))
        return "-".join(parts + _additional_names(self.additional_groups) + (["esn"] if self.esn else []))


def ike_proposal(*names: str) -> Proposal:
    """A proposal for an IKE_SA that offers these algorithms, best first within each type.

    A cipher without AEAD takes its PRF from the integrity algorithm unless one is named, as strongSwan does.
    ConfigurationError: an unknown algorithm, a missing type, or AEAD mixed with other ciphers (RFC 7296, 3.3).
    """
    transforms = _transforms(names)
    types = {transform.type for transform in transforms}
    aead = _is_aead(names, transforms)
    if TransformType.PRF not in types and not aead:
        prfs = [_PRF_OF_INTEGRITY[Integ(t.id)] for t in transforms if t.type == TransformType.INTEG]
        transforms += [Transform(TransformType.PRF, prf) for prf in prfs]
        types |= {TransformType.PRF} if prfs else set()
    if TransformType.ESN in types:
        raise ConfigurationError(f"{_listed(names)}: extended sequence numbers belong to ESP")
    _require(names, types, {TransformType.ENCR, TransformType.PRF, TransformType.KE})
    _check_integrity(names, aead, types)
    return Proposal(Protocol.IKE, _ordered(transforms))


def esp_proposal(*names: str) -> Proposal:
    """A proposal for a CHILD_SA that offers these algorithms; `esn` and `noesn` may be combined.

    ConfigurationError: as ike_proposal.
    """
    transforms = _transforms(names)
    types = {transform.type for transform in transforms}
    aead = _is_aead(names, transforms)
    if TransformType.ESN not in types:
        transforms.append(Transform(TransformType.ESN, Esn.NO))
    if TransformType.PRF in types:
        raise ConfigurationError(f"{_listed(names)}: a PRF belongs to IKE")
    _require(names, types, {TransformType.ENCR})
    _check_integrity(names, aead, types)
    return Proposal(Protocol.ESP, _ordered(transforms))


def ike_proposals(*alternatives: Sequence[str]) -> tuple[Proposal, ...]:
    """Several proposals, numbered from 1 in order of preference."""
    return tuple(replace(ike_proposal(*names), number=index) for index, names in enumerate(alternatives, 1))


def esp_proposals(*alternatives: Sequence[str]) -> tuple[Proposal, ...]:
    """Several proposals, numbered from 1 in order of preference."""
    return tuple(replace(esp_proposal(*names), number=index) for index, names in enumerate(alternatives, 1))


def ike_suite(proposal: Proposal) -> IkeSuite:
    """Return the suite of a proposal with one transform of each type; ConfigurationError if it names an unknown one."""
    try:
        encryption, integrity = _single(proposal, TransformType.ENCR), _single(proposal, TransformType.INTEG)
        prf, group = _single(proposal, TransformType.PRF), _single(proposal, TransformType.KE)
        if encryption is None or prf is None or group is None:
            raise ConfigurationError(f"incomplete IKE proposal {proposal}")
        return IkeSuite(
            Encr(encryption.id),
            _key_length(encryption),
            Prf(prf.id),
            KeGroup(group.id),
            Integ(integrity.id) if integrity is not None and integrity.id else None,
            _additional_groups(proposal),
        )
    except ValueError as error:
        raise ConfigurationError(f"unknown algorithm in {proposal}") from error


def esp_suite(proposal: Proposal) -> EspSuite:
    """Return the suite of a proposal with one transform of each type; ConfigurationError if it names an unknown one."""
    try:
        encryption, integrity = _single(proposal, TransformType.ENCR), _single(proposal, TransformType.INTEG)
        esn, group = _single(proposal, TransformType.ESN), _single(proposal, TransformType.KE)
        if encryption is None:
            raise ConfigurationError(f"incomplete ESP proposal {proposal}")
        return EspSuite(
            Encr(encryption.id),
            _key_length(encryption),
            Integ(integrity.id) if integrity is not None and integrity.id else None,
            esn is not None and esn.id == Esn.YES,
            KeGroup(group.id) if group is not None and group.id else None,
            _additional_groups(proposal),
        )
    except ValueError as error:
        raise ConfigurationError(f"unknown algorithm in {proposal}") from error


def encryption_key_size(encryption: Encr, key_length: int | None) -> int:
    """Bytes of the cipher's key, without salt."""
    return 32 if key_length is None else key_length // 8


def salt_size(encryption: Encr) -> int:
    """Bytes of salt that follow the key in KEYMAT (RFC 4106, 8.1; RFC 7634, 2)."""
    return 4 if encryption in AEAD else 0


def group_name(group: int) -> str:
    """The name of a key exchange group, or its number for one that has no name."""
    return NAMES.get(Transform(TransformType.KE, group), str(group))


def integrity_key_size(integrity: Integ | None) -> int:
    """Bytes of the integrity key (RFC 4868, 2.1.1)."""
    return 0 if integrity is None else _INTEGRITY_KEY_SIZES[integrity]


_KNOWN_GROUPS = frozenset(KeGroup)
_PRF_OF_INTEGRITY = {
    Integ.HMAC_SHA2_256_128: Prf.HMAC_SHA2_256,
    Integ.HMAC_SHA2_384_192: Prf.HMAC_SHA2_384,
    Integ.HMAC_SHA2_512_256: Prf.HMAC_SHA2_512,
}
_INTEGRITY_KEY_SIZES = {
    Integ.NONE: 0,
    Integ.HMAC_SHA2_256_128: 32,
    Integ.HMAC_SHA2_384_192: 48,
    Integ.HMAC_SHA2_512_256: 64,
}


def _transforms(names: Sequence[str]) -> list[Transform]:
    try:
        return [ALGORITHMS[name] for name in names]
    except KeyError as error:
        raise ConfigurationError(f"{_listed(names)}: unknown algorithm {error.args[0]!r}") from error


def _listed(names: Sequence[str]) -> str:
    return repr("-".join(names))


def _ordered(transforms: Iterable[Transform]) -> tuple[Transform, ...]:
    """Sorted by type, without repetition; the order within a type stays."""
    return tuple(sorted(dict.fromkeys(transforms), key=lambda transform: transform.type))


def _is_aead(names: Sequence[str], transforms: Iterable[Transform]) -> bool:
    kinds = {transform.id in AEAD for transform in transforms if transform.type == TransformType.ENCR}
    if len(kinds) == 2:
        raise ConfigurationError(f"{_listed(names)}: AEAD and other ciphers need separate proposals (RFC 7296, 3.3)")
    return True in kinds


def _require(names: Sequence[str], types: set[int], required: set[TransformType]) -> None:
    missing = required - types
    if missing:
        raise ConfigurationError(f"{_listed(names)}: lacks {', '.join(sorted(kind.name for kind in missing))}")


def _check_integrity(names: Sequence[str], aead: bool, types: set[int]) -> None:
    if aead and TransformType.INTEG in types:
        raise ConfigurationError(f"{_listed(names)}: an AEAD cipher takes no integrity algorithm")
    if not aead and TransformType.INTEG not in types:
        raise ConfigurationError(f"{_listed(names)}: lacks INTEG")


def _single(proposal: Proposal, kind: TransformType) -> Transform | None:
    found = proposal.of_type(kind)
    if len(found) > 1:
        raise ConfigurationError(f"{proposal}: more than one {kind.name}")
    return found[0] if found else None


def _key_length(encryption: Transform) -> int | None:
    """ChaCha20 has keys of one length; some peers state it nevertheless, against RFC 7634, 4."""
    return None if encryption.id == Encr.CHACHA20_POLY1305 else encryption.key_length


def _additional_groups(proposal: Proposal) -> tuple[KeGroup, ...]:
    chosen = (_single(proposal, kind) for kind in ADDITIONAL_KE_TYPES)
    return tuple(KeGroup(transform.id) for transform in chosen if transform is not None and transform.id)


def _additional_names(groups: tuple[KeGroup, ...]) -> list[str]:
    return [f"ke{index}_{group_name(group)}" for index, group in enumerate(groups, 1)]


def _encryption_name(encryption: Encr, key_length: int | None) -> str:
    return name_of(Transform(TransformType.ENCR, encryption, key_length))
