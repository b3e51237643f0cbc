"""Two engines over a wire that drops, repeats, reorders and delays: finally they agree."""

from collections.abc import Sequence

from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from warren_ikev2.addresses import Datagram
from warren_ikev2.events import IkeSaDeleted, IkeSaEstablished, IkeSaRekeyed
from warren_testkit.examples import examples
from warren_testkit.ikev2.pair import Pair, act, make_pair
from warren_testkit.ikev2.proposals import parse_ike_proposals

FATES: st.SearchStrategy[tuple[float, ...]] = st.one_of(
    st.just(()),
    st.tuples(st.floats(0.001, 0.05)),
    st.tuples(st.floats(0.001, 20)),
    st.tuples(st.floats(0.001, 1), st.floats(0.001, 10)),
)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["moon", "sun"]),
        st.sampled_from(["rekey_child", "rekey_ike", "check", "delete_child", "create_child", "delete"]),
        st.floats(0, 3),
    ),
    max_size=6,
)


def assert_agreement(pair: Pair) -> None:
    """The same IKE_SAs exist on both sides, with the same CHILD_SAs."""
    pair.check_children()
    assert pair.moon.endpoint.size == pair.sun.endpoint.size <= 1
    if pair.moon.endpoint.size:
        assert len(pair.moon.all(IkeSaEstablished)) > len(pair.moon.all(IkeSaDeleted))
        assert pair.moon.all(IkeSaRekeyed)[-1:] == [] or (
            pair.moon.last(IkeSaRekeyed).spi_i == pair.sun.last(IkeSaRekeyed).spi_i
        )
    else:
        assert not pair.moon.children


@given(fates=st.lists(FATES, max_size=60), actions=ACTIONS)
@example(  # both rekey the IKE_SA, and one side never learns that both did
    fates=[(1.0, 1.0), (), (0.03,), (0.03,), (0.03,), (), (0.03,), (0.03,), (0.03,), ()],
    actions=[("sun", "rekey_ike", 0.0), ("moon", "rekey_child", 0.0), ("moon", "rekey_ike", 0.0)],
)
@examples(150, suppress_health_check=[HealthCheck.too_slow])
def test_both_sides_agree_after_any_faults(
    fates: Sequence[tuple[float, ...]], actions: Sequence[tuple[str, str, float]]
) -> None:
    queue = list(fates)

    def fate(datagram: Datagram) -> tuple[float, ...]:
        return queue.pop(0) if queue else (0.01,)

    pair = make_pair(moon={"dpd_delay": 30.0}, sun={"dpd_delay": 30.0})
    pair.wire.fate = fate
    pair.start()
    pair.wire.run(5)
    for side, action, pause in actions:
        act(pair, side, action)
        pair.wire.run(pause)
    pair.wire.run(1000)
    assert_agreement(pair)


@given(fates=st.lists(st.sampled_from([(), (0.01,), (0.01, 0.5), (1.5,)]), max_size=40))
@examples(60, suppress_health_check=[HealthCheck.too_slow])
def test_fragments_and_additional_key_exchanges_survive_faults(fates: Sequence[tuple[float, ...]]) -> None:
    queue = list(fates)
    proposals = parse_ike_proposals("aes256gcm16-prfsha384-x25519-ke1_mlkem768")
    fields = {"ike_proposals": proposals, "fragment_size": 400, "dpd_delay": 30.0}
    pair = make_pair(moon=fields, sun=fields)
    pair.wire.fate = lambda datagram: queue.pop(0) if queue else (0.01,)
    pair.start()
    pair.wire.run(10)
    act(pair, "moon", "rekey_ike")
    pair.wire.run(1000)
    assert_agreement(pair)


@given(noise=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5))
@examples(100)
def test_damaged_datagrams_change_nothing(noise: Sequence[tuple[int, int]]) -> None:
    """Each datagram arrives damaged first, then as it was sent."""
    pair = make_pair()
    deliver = pair.wire._deliver

    def deliver_damaged_first(datagram: Datagram) -> None:
        data = bytearray(datagram.data)
        for position, value in noise:
            data[position % len(data)] = value
        if bytes(data) != datagram.data and data[:28] != b"\x00" * 28:
            deliver(Datagram(bytes(data), datagram.path))
        deliver(datagram)

    pair.wire._deliver = deliver_damaged_first  # type: ignore[method-assign]  # this test plays the attacker on the path
    pair.start()
    pair.wire.run(400)
    if pair.moon.all(IkeSaEstablished):
        assert pair.moon.last(IkeSaEstablished).suite == pair.sun.last(IkeSaEstablished).suite
        assert {c.keys_in for c in pair.moon.children} <= {c.keys_out for c in pair.sun.children}
