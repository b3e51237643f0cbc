"""Keywords and proposals."""

import pytest

from warren_ikev2.constants import Encr, Integ, KeGroup, Prf
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.suites import EspSuite, IkeSuite, esp_suite, ike_suite, parse_esp_proposal, parse_ike_proposal


def test_ike_keywords_with_aead() -> None:
    suite = ike_suite(parse_ike_proposal("aes256gcm16-prfsha384-x25519"))
    assert suite == IkeSuite(Encr.AES_GCM_16, 256, Prf.HMAC_SHA2_384, KeGroup.X25519)
    assert str(suite) == "aes256gcm16-prfsha384-x25519"


def test_ike_keywords_take_the_prf_from_the_integrity_algorithm() -> None:
    suite = ike_suite(parse_ike_proposal("aes256-sha256-modp2048"))
    assert suite == IkeSuite(Encr.AES_CBC, 256, Prf.HMAC_SHA2_256, KeGroup.MODP_2048, Integ.HMAC_SHA2_256_128)


def test_additional_key_exchanges_keep_their_place() -> None:
    suite = ike_suite(parse_ike_proposal("aes256gcm16-prfsha384-x25519-ke1_mlkem768"))
    assert suite.additional_groups == (KeGroup.ML_KEM_768,)
    assert str(suite) == "aes256gcm16-prfsha384-x25519-ke1_mlkem768"


def test_esp_keywords() -> None:
    assert esp_suite(parse_esp_proposal("chacha20poly1305")) == EspSuite(Encr.CHACHA20_POLY1305, None)
    assert esp_suite(parse_esp_proposal("aes128gcm16-ecp256-esn")) == EspSuite(
        Encr.AES_GCM_16, 128, esn=True, group=KeGroup.ECP_256
    )


@pytest.mark.parametrize(
    "keywords",
    [
        "",
        "aes256",
        "aes256gcm16-x25519",
        "aes256gcm16-sha256-prfsha256-x25519",
        "aes256gcm16-aes256-sha256-x25519",
        "3des-md5-x25519",
    ],
)
def test_unusable_ike_keywords_are_refused(keywords: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_ike_proposal(keywords)
