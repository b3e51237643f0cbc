"""Which negotiated algorithms a tunnel allows."""

import pytest

from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import DesiredHandles
from warren_agent.drivers.strongswan.negotiated import foreign_algorithms
from warren_agent.drivers.strongswan.sas import ChildSa, IkeSa
from warren_contracts.status import TrafficStats
from warren_testkit.intent import ipsec_tunnel

TUNNEL = ipsec_tunnel(
    ike={"proposals": ["aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes256-sha256-prfsha256-modp2048-ecp256"]},
    child={"proposals": ["aes256gcm16-x25519"]},
)
CONNECTION, CHILD = HandleName("hub+spoke", 3), HandleName("hub+spoke", 3, TUNNEL.link.children[0].name)
DESIRED = DesiredHandles(CONNECTION, (CHILD,), owner=True)
IKE, ESP = "aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes256gcm16"


def found(ike: str = IKE, esp: str = ESP, connection: HandleName = CONNECTION, child: HandleName = CHILD) -> str:
    sa = ChildSa(
        handle=child, unique_id=9, state="INSTALLED", spi_in="1", spi_out="2", cipher=esp, key_exchange="", esn=False, encap=True,
        established=0, rekey_in=None, expires_in=None, local_ts=(), remote_ts=(), traffic=TrafficStats(),
    )  # fmt: skip
    held = IkeSa(
        handle=connection, unique_id=1, state="ESTABLISHED", initiator=True, cipher=ike, established=0, local_host="",
        remote_host="", children=(sa,),
    )  # fmt: skip
    return foreign_algorithms(TUNNEL, [held], DESIRED)


def test_sas_of_any_of_the_proposals_are_allowed() -> None:
    assert found() == found(ike="aes256-sha256-prfsha256-modp2048") == found(ike="aes256-sha256-prfsha256-ecp256") == ""


@pytest.mark.parametrize(
    ("ike", "esp", "shown"),
    [
        (IKE, "aes128-sha1", "aes128-sha1"),
        ("aes256gcm16-prfsha384-ecp256-ke1_mlkem768", ESP, "aes256gcm16-prfsha384-ecp256-ke1_mlkem768"),
        ("aes256-sha256-prfsha384-modp2048", ESP, "aes256-sha256-prfsha384-modp2048"),  # of two proposals together
        ("3des-sha1-prfsha1-modp1024", "3des-sha1", "3des-sha1, 3des-sha1-prfsha1-modp1024"),
    ],
)
def test_other_algorithms_are_named(ike: str, esp: str, shown: str) -> None:
    assert found(ike, esp) == shown


def test_algorithm_of_a_name_that_our_grammar_does_not_have_is_not_judged() -> None:
    assert found("serpent256-prfsha384-x25519", "aes256gcm16-unheard_of") == ""


def test_sas_of_older_configurations_are_not_judged() -> None:
    assert found("3des-sha1-prfsha1-modp1024", "3des-sha1", connection=HandleName("hub+spoke", 2)) == ""
    assert found(esp="3des-sha1", child=HandleName("hub+spoke", 2, CHILD.child)) == ""
