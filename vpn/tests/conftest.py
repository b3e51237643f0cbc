"""What the tests of the VPN share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from warren_testkit.ikev2.keys import Authority


@pytest.fixture
def make_ca() -> Callable[[Path], x509.Certificate]:
    """Write a CA's ca.crt and ca.key into a folder."""

    def make(folder: Path) -> x509.Certificate:
        authority = Authority.make("VPN CA")
        key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "ca.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        (folder / "ca.key").write_bytes(key)
        return authority.certificate

    return make
