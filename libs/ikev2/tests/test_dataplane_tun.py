"""What a TUN device is set to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.children import EspKeys
from warren_ikev2.dataplane.trains import MAX_SEGMENTS, MAX_TRAIN
from warren_ikev2.dataplane.tun import ip_arguments, link_settings
from warren_ikev2.esp.pmtu import sealed_length
from warren_ikev2.esp.transforms import build_transform
from warren_ikev2.suites import esp_suite
from warren_testkit.ikev2.dataplane import KEY_LENGTHS
from warren_testkit.ikev2.proposals import parse_esp_proposal


@pytest.mark.parametrize("esp", ["aes256gcm16", "chacha20poly1305"])
@given(mtu=st.integers(1280, 9160))
def test_the_largest_packet_of_the_kernel_fits_one_train(esp: str, mtu: int) -> None:
    cipher, salt, _ = KEY_LENGTHS[esp]
    transform = build_transform(esp_suite(parse_esp_proposal(esp)), EspKeys(bytes(cipher), bytes(salt), b""), bytes)
    settings = link_settings(mtu)
    segments, sealed = settings["gso_max_segs"], sealed_length(transform, mtu)
    assert segments * sealed <= MAX_TRAIN
    assert segments == MAX_SEGMENTS or (segments + 1) * sealed > MAX_TRAIN
    assert min(65536, segments * mtu) == settings["gso_max_size"]
    assert settings["mtu"] == mtu


def test_settings_are_words_of_ip_link() -> None:
    assert ip_arguments(link_settings(1400)) == ["mtu", "1400", "gso_max_segs", "45", "gso_max_size", "63000"]
