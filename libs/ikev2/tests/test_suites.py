"""Algorithms, proposals and suites."""

import re

import pytest

from warren_contracts.proposals import AEAD_CIPHERS, CIPHERS, ESN, GROUPS, INTEGRITIES, NONE, PRFS
from warren_ikev2.algorithms import ALGORITHMS
from warren_ikev2.constants import Encr, Integ, KeGroup, Prf
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.suites import EspSuite, IkeSuite, esp_proposal, esp_suite, ike_proposal, ike_suite


def test_ike_suite_with_aead() -> None:
    suite = ike_suite(ike_proposal("aes256gcm16", "prfsha384", "x25519"))
    assert suite == IkeSuite(Encr.AES_GCM_16, 256, Prf.HMAC_SHA2_384, KeGroup.X25519)
    assert str(suite) == "aes256gcm16-prfsha384-x25519"


def test_the_prf_follows_the_integrity_algorithm() -> None:
    suite = ike_suite(ike_proposal("aes256", "sha256", "modp2048"))
    assert suite == IkeSuite(Encr.AES_CBC, 256, Prf.HMAC_SHA2_256, KeGroup.MODP_2048, Integ.HMAC_SHA2_256_128)


def test_additional_key_exchanges_keep_their_place() -> None:
    suite = ike_suite(ike_proposal("aes256gcm16", "prfsha384", "x25519", "ke1_mlkem768"))
    assert suite.additional_groups == (KeGroup.ML_KEM_768,)
    assert str(suite) == "aes256gcm16-prfsha384-x25519-ke1_mlkem768"


def test_esp_suite() -> None:
    assert esp_suite(esp_proposal("chacha20poly1305")) == EspSuite(Encr.CHACHA20_POLY1305, None)
    assert esp_suite(esp_proposal("aes128gcm16", "ecp256", "esn")) == EspSuite(
        Encr.AES_GCM_16, 128, esn=True, group=KeGroup.ECP_256
    )


def test_policies_use_the_same_names() -> None:
    """The grammar of contracts is the only one, so a name that it does not give would never reach the engine."""
    canonical = {*AEAD_CIPHERS, *CIPHERS, *INTEGRITIES, *PRFS, *GROUPS, *ESN, NONE}
    assert {re.sub("^ke[1-7]_", "", name) for name in ALGORITHMS} <= canonical


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("aes256",),
        ("aes256gcm16", "x25519"),
        ("aes256gcm16", "sha256", "prfsha256", "x25519"),
        ("aes256gcm16", "aes256", "sha256", "x25519"),
        ("3des", "md5", "x25519"),
        "aes256gcm16-prfsha384-x25519",
    ],
)
def test_unusable_algorithms_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        ike_proposal(*names)
