"""The tables are complete: every keyword has a status, and no profile offers what its document refuses."""

import pytest

from warren_contracts import proposals as grammar
from warren_contracts.policy import Crypto
from warren_intent.algorithms import ALGORITHMS, COLUMNS, Recommendation
from warren_intent.errors import UnknownProfileError
from warren_intent.profiles import PROFILES, profile_of, proposals


def test_every_keyword_is_judged() -> None:
    words = {
        *grammar.AEAD_CIPHERS,
        *grammar.CIPHERS,
        *grammar.INTEGRITIES,
        *grammar.PRFS,
        *grammar.GROUPS,
    }
    assert words == ALGORITHMS.keys() - {"psk", "ed25519"}
    assert {len(algorithm.standings) for algorithm in ALGORITHMS.values()} == {len(COLUMNS)}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_offers_only_what_its_document_lists(name: str) -> None:
    profile = PROFILES[name]
    for column, offered in zip(profile.columns, proposals(name), strict=True):
        assert offered
        for proposal in offered:
            assert proposal.key_exchange
            for word in proposal:
                assert ALGORITHMS[word].standing(column) in (Recommendation.RECOMMENDED, Recommendation.ALLOWED), (
                    name,
                    word,
                )


def test_ike_proposals_of_profiles_have_a_prf_and_esp_proposals_none() -> None:
    for profile in PROFILES.values():
        assert all(proposal.prf for proposal in profile.ike)
        assert not any(proposal.prf for proposal in profile.esp)


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(UnknownProfileError, match="cnsa2"):
        profile_of(Crypto(profile="none"))
