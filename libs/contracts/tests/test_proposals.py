"""The grammar of proposals: canonical spelling, aliases, alternatives, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.proposals import (
    AEAD_CIPHERS,
    ALIASES,
    CIPHERS,
    GROUPS,
    INTEGRITIES,
    PRFS,
    Algorithms,
    parse_proposal,
)


def some(words: tuple[str, ...], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(words), min_size=least, max_size=3, unique=True).map(tuple)


PROPOSALS = st.one_of(
    st.builds(Algorithms, some(AEAD_CIPHERS, 1), st.just(()), some(PRFS), some(GROUPS), esn=some(("esn", "noesn"))),
    st.builds(
        Algorithms, some(CIPHERS, 1), some(INTEGRITIES, 1), some(PRFS), some(GROUPS),
        st.lists(some((*GROUPS, "none"), 1), max_size=7).map(tuple),
    ),
)  # fmt: skip


@given(PROPOSALS)
def test_the_canonical_spelling_is_read_back(proposal: Algorithms) -> None:
    assert parse_proposal(proposal.keywords) == proposal


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("aes256gcm128-prfsha384-curve25519", "aes256gcm16-prfsha384-x25519"),
        ("AES128GCM64-x25519", "aes128gcm8-x25519"),
        ("aes256gcm-ecp384", "aes256gcm16-ecp384"),
        ("aes-sha2_256-modp2048", "aes128-sha256-modp2048"),
        ("modp2048-sha2_512-sha1-aes256-aes128-modp3072", "aes256-aes128-sha512-sha1-modp2048-modp3072"),
        (
            "aes256gcm16-x25519-ke1_mlkem768-ke1_none-ke2_mlkem1024",
            "aes256gcm16-x25519-ke1_mlkem768-ke1_none-ke2_mlkem1024",
        ),
        ("aes256gcm16-esn-noesn", "aes256gcm16-esn-noesn"),
    ],
)
def test_other_spellings_become_canonical(text: str, canonical: str) -> None:
    assert parse_proposal(text).keywords == canonical


def test_no_alias_hides_a_keyword() -> None:
    known = {*AEAD_CIPHERS, *CIPHERS, *INTEGRITIES, *PRFS, *GROUPS}
    assert not {alias for alias, word in ALIASES.items() if alias in known and alias != word}
    assert set(ALIASES.values()) <= known


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rot13-sha256", "unknown keyword 'rot13'"),
        ("aes256-aes256gcm16-sha256-x25519", "separate proposals"),
        ("aes256gcm16-sha256-x25519", "remove sha256"),
        ("aes256-x25519", "requires an integrity algorithm"),
        ("aes256gcm16-aes256gcm128-x25519", "twice"),
        ("sha256-x25519", "no encryption algorithm"),
        ("aes256gcm16-x25519-ke2_mlkem768", "without ke1_"),
        ("aes256gcm16-x25519-ke8_mlkem768", "unknown keyword"),
        ("", "unknown keyword"),
    ],
)
def test_a_refusal_names_the_keyword(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_proposal(text)
