"""What is reported to an operator is what the driver does: whatever `check` passes without a word,
the driver's own check lets pass too."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.drivers.strongswan.capabilities import CharonAbilities, algorithm_name
from warren_agent.drivers.strongswan.checks import check as driver_check
from warren_agent.errors import ConfigRefusedError
from warren_contracts.ipsec import MIN_LIFETIME, Childless, DpdAction, Fragmentation, Mode
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.proposals import AEAD_CIPHERS, CIPHERS, GROUPS, INTEGRITIES, PRFS
from warren_intent.check import check
from warren_intent.expand import expand
from warren_intent.findings import Code, Finding, errors
from warren_testkit.intent import directory, published, record

ALGORITHMS = frozenset(algorithm_name(word) for word in (*AEAD_CIPHERS, *CIPHERS, *INTEGRITIES, *PRFS, *GROUPS))
IKE = ("aes256gcm16-prfsha384-x25519", "aes128-sha256-prfsha256-ecp256", "aes256gcm16-prfsha384-x25519-ke1_mlkem768")
ESP = ("aes256gcm16-x25519", "chacha20poly1305-ecp384", "aes256gcm16-x25519-esn", "aes128-sha256")

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "ike": st.fixed_dictionaries(
            {}, optional={
                "version": st.sampled_from([1, 2, 2, 2]),
                "reauth_time": st.sampled_from([0, 1, MIN_LIFETIME - 1, MIN_LIFETIME, 7_200]),
                "dpd_timeout": st.sampled_from([0, 60]), "childless": st.sampled_from([*Childless]),
                "fragmentation": st.sampled_from([*Fragmentation]),
                "ppk_required": st.sampled_from([False, False, True]), "mobike": st.booleans(),
            },
        ),
        "child": st.fixed_dictionaries(
            {}, optional={
                "mode": st.sampled_from([*Mode, Mode.TUNNEL]), "dpd_action": st.sampled_from([*DpdAction]),
                "hw_offload": st.sampled_from(["no", "auto", "yes", "crypto", "packet"]),
                "copy_dscp": st.sampled_from(["out", "in", "yes", "no"]), "replay_window": st.sampled_from([32, 4_096]),
            },
        ),
    },
)  # fmt: skip
CRYPTO = st.fixed_dictionaries(
    {}, optional={
        "ike": st.lists(st.sampled_from(IKE), min_size=1, max_size=3, unique=True),
        "esp": st.lists(st.sampled_from(ESP), min_size=1, max_size=3, unique=True),
    },
)  # fmt: skip
CHARONS = st.builds(
    CharonAbilities,
    st.sampled_from(["5.9.8", "5.9.14", "6.0.1", "6.1.0"]),
    st.sampled_from([frozenset({"kernel-netlink"}), frozenset({"kernel-libipsec", "kernel-netlink"})]),
    st.sets(st.sampled_from(["CURVE_25519", "CHACHA20_POLY1305", "ML_KEM_768", "ECP_384"]), max_size=2).map(
        lambda lost: ALGORITHMS - lost
    ),
)


def peer(name: str, number: int, charon: CharonAbilities, *, reported: bool, host: bool) -> PeerRecord:
    changes: dict[str, Any] = {"driver": charon.document()} if reported else {}
    made = record(name, number, name, **changes)
    return made.model_copy(update={"subnets": (ip_network(str(made.endpoints[0].host)),)}) if host else made


def is_reported(found: tuple[Finding, ...]) -> bool:
    """Refused, or said of a peer that its tunnels are left out: what one peer cannot do refuses no policy of the others."""
    left_out = (it for it in found if it.code is Code.UNSUPPORTED and "/options/" in it.field)
    return bool(errors(found)) or any(left_out)


@given(OPTIONS, CRYPTO, st.tuples(CHARONS, CHARONS), st.booleans())
def test_what_passes_the_check_passes_the_driver(
    options: dict[str, Any], crypto: dict[str, Any], charons: tuple[CharonAbilities, CharonAbilities], host: bool
) -> None:
    names = ("hub", "spoke")
    records = [
        peer(name, n, charon, reported=True, host=host)
        for n, (name, charon) in enumerate(zip(names, charons, strict=True), 1)
    ]
    fleet = directory(*records)
    policy = published("p", hubs=["tag=hub"], spokes=["tag=spoke"], options=options, crypto=crypto)
    if is_reported(check([policy], fleet, names)):
        return
    for name, charon in zip(names, charons, strict=True):
        for config in expand([policy], fleet, name):
            driver_check(config, charon)


@given(OPTIONS, st.booleans())
def test_what_passes_before_the_daemons_have_reported_passes_a_driver_of_the_least_charon(
    options: dict[str, Any], host: bool
) -> None:
    least = CharonAbilities("5.9.8", frozenset({"kernel-libipsec"}), ALGORITHMS)
    fleet = directory(*(peer(name, n, least, reported=False, host=host) for n, name in enumerate(("hub", "spoke"), 1)))
    policy = published("p", hubs=["tag=hub"], spokes=["tag=spoke"], options=options)
    if is_reported(check([policy], fleet, ("hub", "spoke"))):
        return
    for name in fleet:
        for config in expand([policy], fleet, name):
            driver_check(config, least)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ike": {"ppk_required": True}}, r"options\.ike\.ppk_required"),
        ({"ike": {"version": 1}}, r"options\.ike\.version"),
        ({"ike": {"reauth_time": 1}}, r"options\.ike\.reauth_time"),
        ({"child": {"mode": "transport"}}, r"options\.child\.mode"),
        ({"child": {"dpd_action": "trap"}}, r"options\.child\.dpd_action"),
    ],
)
def test_a_driver_fails_closed_where_a_check_was_passed_by(options: dict[str, Any], field: str) -> None:
    """An older policy service may have let it through."""
    charon = CharonAbilities("6.1.0", frozenset({"kernel-netlink"}), ALGORITHMS)
    fleet = directory(*(peer(name, n, charon, reported=True, host=False) for n, name in enumerate(("hub", "spoke"), 1)))
    policy = published("p", hubs=["tag=hub"], spokes=["tag=spoke"], options=options)
    (config,) = expand([policy], fleet, "hub")
    with pytest.raises(ConfigRefusedError, match=field):
        driver_check(config, charon)


def test_a_ppk_that_nobody_holds_is_refused() -> None:
    fleet = directory(record("hub", 1, "hub"), record("spoke", 2, "spoke"))
    (config,) = expand([published("p", hubs=["tag=hub"], spokes=["tag=spoke"])], fleet, "hub")
    driver_check(config, CharonAbilities())
    for required in (False, True):
        ike = config.link.ike.model_copy(update={"ppk_id": "ppk-1", "ppk_required": required})
        demanded = config.model_copy(update={"link": config.link.model_copy(update={"ike": ike})})
        with pytest.raises(ConfigRefusedError, match="ppk"):
            driver_check(demanded, CharonAbilities())


def test_an_announced_charon_lists_what_its_check_asks_for() -> None:
    assert DriverCapabilities().features == ()
    assert "hw_offload-packet" in CharonAbilities("6.1.0").document().features
