"""Crypto profiles by name: the proposals that each one offers, in order of preference, and its limits.

Each proposal ends in a key exchange, so that CHILD_SAs are rekeyed with forward secrecy. Lifetimes are seconds.
"""

from dataclasses import dataclass

from warren_contracts.policy import Crypto
from warren_contracts.proposals import Algorithms, parse_proposal
from warren_intent.errors import UnknownProfileError

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Profile:
    """The proposals and limits of one document. `columns` are the `algorithms.COLUMNS` for IKE and ESP proposals."""

    name: str
    title: str
    columns: tuple[str, str]
    ike: tuple[Algorithms, ...]
    esp: tuple[Algorithms, ...]
    max_child_life: int = 86_400  # s
    min_replay_window: int = 32  # packets


def _parse(*proposals: str) -> tuple[Algorithms, ...]:
    return tuple(parse_proposal(text) for text in proposals)


_RFC = ("rfc-ike", "rfc-esp")
PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            DEFAULT, "Warren's own choice", _RFC,
            _parse("aes256gcm16-prfsha384-x25519", "aes256gcm16-prfsha384-ecp384", "aes256-sha384-prfsha384-ecp384"),
            _parse("aes256gcm16-x25519", "aes256gcm16-ecp384", "aes256-sha384-ecp384"),
        ),
        Profile(
            "rfc8247", "RFC 8247 and RFC 8221", _RFC,
            _parse("aes256gcm16-prfsha512-ecp256", "aes128gcm16-prfsha256-ecp256", "aes128-sha256-prfsha256-modp2048"),
            _parse("aes256gcm16-ecp256", "aes128gcm16-ecp256", "aes128-sha256-modp2048"),
        ),
        Profile(
            "nist-800-77r1", "NIST SP 800-77 revision 1", ("nist-800-77r1", "nist-800-77r1"),
            _parse("aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-ecp256", "aes256-sha384-prfsha384-modp3072"),
            _parse("aes256gcm16-ecp384", "aes128gcm16-ecp256", "aes256-sha384-modp3072"),
            max_child_life=28_800, min_replay_window=64,
        ),
        Profile(
            "fips-140-3", "Algorithms that FIPS 140-3 approves (inside a validated module)", ("fips-140-3", "fips-140-3"),
            _parse("aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-ecp256", "aes256-sha384-prfsha384-modp3072"),
            _parse("aes256gcm16-ecp384", "aes128gcm16-ecp256", "aes256-sha384-modp3072"),
            min_replay_window=64,
        ),
        Profile(
            "cnsa1", "CNSA 1.0, RFC 9206", ("cnsa1", "cnsa1"),
            _parse("aes256gcm16-prfsha512-ecp384", "aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha512-modp4096"),
            _parse("aes256gcm16-ecp384", "aes256gcm16-modp4096"),
            max_child_life=28_800, min_replay_window=64,
        ),
        Profile(
            "cnsa2", "CNSA 2.0, draft-guthrie-cnsa2-ipsec-profile", ("cnsa2", "cnsa2"),
            _parse("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024", "aes256gcm16-prfsha512-ecp384-ke1_mlkem1024"),
            _parse("aes256gcm16-ecp384-ke1_mlkem1024"),
            max_child_life=28_800, min_replay_window=64,
        ),
        Profile(
            "bsi-tr-02102-3", "BSI TR-02102-3", ("bsi-tr-02102-3", "bsi-tr-02102-3"),
            _parse("aes256gcm16-prfsha512-ecp384", "aes128gcm16-prfsha256-ecp256", "aes256-sha512-prfsha512-ecp384bp"),
            _parse("aes256gcm16-ecp384", "aes128gcm16-ecp256", "aes256-sha512-ecp384bp"),
            max_child_life=14_400, min_replay_window=64,
        ),
    )
}  # fmt: skip


def profile_of(crypto: Crypto) -> Profile:
    """The profile against which a policy's crypto is checked; raises UnknownProfileError."""
    name = crypto.profile or DEFAULT
    if name not in PROFILES:
        raise UnknownProfileError(f"unknown crypto profile {name!r}: use one of {', '.join(PROFILES)}")
    return PROFILES[name]


def proposals(profile: str) -> tuple[tuple[Algorithms, ...], tuple[Algorithms, ...]]:
    """The IKE and the ESP proposals of a profile; raises UnknownProfileError."""
    selected = profile_of(Crypto(profile=profile))
    return selected.ike, selected.esp


def proposals_of(crypto: Crypto) -> tuple[tuple[Algorithms, ...], tuple[Algorithms, ...]]:
    """The proposals of a policy: its own if set, else those of the profile; raises UnknownProfileError."""
    profile = profile_of(crypto)
    return crypto.ike or profile.ike, crypto.esp or profile.esp
