"""Message windows (RFC 7296, 2.3): several outstanding requests, stored and repeated responses, and messages outside."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from warren_ikev2.addresses import Datagram, Path, SocketAddress
from warren_ikev2.configuration import Retransmission
from warren_ikev2.constants import ExchangeType, NotifyType, PayloadType
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.events import (
    AddressChanged,
    ChildSaEstablished,
    DatagramDropped,
    IkeSaDeleted,
    IkeSaEstablished,
    IkeSaRekeyed,
)
from warren_ikev2.window import Place, ReceiveWindow
from warren_ikev2.wire.header import parse_header
from warren_ikev2.wire.payloads import NotifyPayload, Payload
from warren_testkit.examples import examples
from warren_testkit.ikev2.pair import Host, Pair, act, make_pair, sa_of


def make(moon: int = 1, sun: int = 1, **fields: object) -> Pair:
    """A pair that is up; the numbers are their windows."""
    return make_pair(moon={"window_size": moon, **fields}, sun={"window_size": sun, **fields}).establish()


def check(pair: Pair, host: Host, times: int) -> None:
    """Enqueue so many liveness checks."""
    for _ in range(times):
        host.endpoint.commands.check_liveness(host.last(IkeSaEstablished).session, pair.wire.now)


def request(pair: Pair, message_id: int, *payloads: Payload) -> bytes:
    """A request of moon's, for sun, without moon's window recording it."""
    own = sa_of(pair.moon)
    (data,) = own.protect(ExchangeType.INFORMATIONAL, message_id, payloads, response=False)
    return bytes(4) + data


def send(pair: Pair, data: bytes) -> list[bytes]:
    """Return sun's immediate responses."""
    path = sa_of(pair.sun).session.path
    pair.sun.endpoint.receive_datagram(data, path, pair.wire.now)
    answers = [datagram.data for datagram in pair.sun.endpoint.datagrams_to_send(pair.wire.now)]
    pair.sun.events += iter(pair.sun.endpoint.next_event, None)
    return answers


@pytest.mark.parametrize(("moon", "sun"), [(1, 1), (4, 1), (1, 8), (3, 5)])
def test_both_sides_announce_their_windows(moon: int, sun: int) -> None:
    pair = make(moon, sun)
    assert (sa_of(pair.moon).sending.size, sa_of(pair.moon).receiving.size) == (sun, moon)
    assert (sa_of(pair.sun).sending.size, sa_of(pair.sun).receiving.size) == (moon, sun)


def test_as_many_requests_are_outstanding_as_the_peer_s_window_allows() -> None:
    pair = make(sun=4)
    check(pair, pair.moon, 6)
    assert len(pair.moon.endpoint.datagrams_to_send(pair.wire.now)) == 4
    assert [outstanding.message_id for outstanding in sa_of(pair.moon).sending] == [2, 3, 4, 5]


def test_we_use_no_more_of_a_window_than_configured() -> None:
    pair = make(sun=8, max_outstanding=3)
    check(pair, pair.moon, 6)
    assert len(sa_of(pair.moon).sending.outstanding) == 3


def test_a_request_waits_for_the_oldest_answer_that_its_window_needs() -> None:
    """X waits for all answers up to X - N, however many later ones there are."""
    pair = make(sun=4)
    first = True

    def fate(datagram: Datagram) -> tuple[float, ...]:
        nonlocal first
        lost, first = first, False
        return () if lost else (0.01,)

    pair.wire.fate = fate
    check(pair, pair.moon, 6)
    pair.wire.run(1)
    sending = sa_of(pair.moon).sending
    assert (list(sending.outstanding), sending.next_id, len(sa_of(pair.moon).queue)) == ([2], 6, 2)
    pair.wire.run(5)
    assert (list(sending.outstanding), sending.next_id) == ([], 8)


def test_requests_are_answered_in_any_order() -> None:
    pair = make(sun=4)
    assert all(len(send(pair, request(pair, message_id))) == 1 for message_id in (5, 3, 2, 4))
    assert sa_of(pair.sun).receiving.lowest == 6


def test_repeated_requests_get_the_same_bytes() -> None:
    pair = make(sun=3)
    cookies = {number: NotifyPayload(NotifyType.COOKIE2, bytes([number] * 16)) for number in range(2, 8)}
    requests = {number: request(pair, number, cookie) for number, cookie in cookies.items()}
    answers = {number: send(pair, requests[number]) for number in requests}
    for number in (5, 7, 6):
        assert send(pair, requests[number]) == answers[number]
    for number in (2, 3, 4):
        assert send(pair, requests[number]) == []
    assert list(sa_of(pair.sun).receiving.answers) == [5, 6, 7]


@pytest.mark.parametrize("message_id", [0, 1, 10, 11, 1000, 2**32 - 1])
def test_requests_outside_the_window_are_dropped(message_id: int) -> None:
    pair = make(sun=4)
    for number in (2, 3, 4, 5):
        send(pair, request(pair, number))
    assert send(pair, request(pair, message_id)) == []
    assert pair.sun.last(DatagramDropped).reason == "window"
    assert sa_of(pair.sun).receiving.lowest == 6
    assert len(send(pair, request(pair, 9))) == 1


def test_a_forged_repetition_is_not_answered() -> None:
    pair = make(sun=4)
    data = request(pair, 3)
    assert len(send(pair, data)) == 1
    assert send(pair, data[:-1] + bytes([data[-1] ^ 1])) == []
    assert pair.sun.last(DatagramDropped).reason == "integrity"


@pytest.mark.parametrize("data", [b"", b"\0\0\4", b"\0\0\0\0\4"])
def test_a_window_of_a_wrong_length_is_ignored(data: bytes) -> None:
    pair = make()
    send(pair, request(pair, 2, NotifyPayload(NotifyType.SET_WINDOW_SIZE, data)))
    assert sa_of(pair.sun).sending.size == 1


def test_a_window_grows_later_and_never_shrinks() -> None:
    pair = make()
    for message_id, size, then in ((2, 5, 5), (3, 2, 5), (4, 0, 5), (5, 2**32 - 1, 16)):
        send(pair, request(pair, message_id, NotifyPayload(NotifyType.SET_WINDOW_SIZE, size.to_bytes(4, "big"))))
        assert sa_of(pair.sun).sending.size == then


@pytest.mark.parametrize("fields", [{"window_size": 0}, {"window_size": 65}, {"max_outstanding": 0}])
def test_windows_are_limited(fields: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        make_pair(moon=fields)


def test_windows_are_announced_again_after_a_rekeying() -> None:
    pair = make(3, 5)
    old = sa_of(pair.moon)
    pair.moon.endpoint.commands.rekey_ike(pair.moon_session, pair.wire.now)
    pair.wire.run(5)
    assert sa_of(pair.moon) is not old
    assert (sa_of(pair.moon).sending.size, sa_of(pair.sun).sending.size) == (5, 3)
    check(pair, pair.moon, 9)
    assert len(sa_of(pair.moon).sending.outstanding) == 5


def test_fragments_of_several_messages_may_mix() -> None:
    pair = make(sun=4, fragment_size=400)
    own = sa_of(pair.moon)
    long = NotifyPayload(50_000, bytes(900))
    sets = [own.protect(ExchangeType.INFORMATIONAL, number, [long], response=False) for number in (2, 3, 4)]
    assert len(sets[0]) > 2
    answers = [send(pair, bytes(4) + part) for parts in zip(*sets, strict=True) for part in parts]
    assert [len(answer) for answer in answers] == [0] * (len(answers) - 3) + [1, 1, 1]
    assert sa_of(pair.sun).receiving.lowest == 5


def test_our_rekeying_waits_for_outstanding_requests() -> None:
    pair = make(sun=8)
    check(pair, pair.moon, 3)
    pair.moon.endpoint.commands.create_child(pair.moon_session, "net", pair.wire.now)
    pair.moon.endpoint.commands.rekey_ike(pair.moon_session, pair.wire.now)
    check(pair, pair.moon, 2)
    assert (len(sa_of(pair.moon).sending.outstanding), len(sa_of(pair.moon).queue)) == (4, 3)
    pair.wire.run(30)
    assert len(pair.moon.all(IkeSaRekeyed)) == len(pair.sun.all(IkeSaRekeyed)) == 1
    assert len(pair.moon.all(ChildSaEstablished)) == 2
    pair.check_children()


@pytest.mark.parametrize("what", ["check", "create_child"])
def test_the_peer_rekeys_while_our_requests_are_outstanding(what: str) -> None:
    """Liveness checks go on over the old IKE_SA; a pending CHILD_SA refuses the rekeying for a while (2.25.2)."""
    pair = make(sun=8)
    slow = pair.moon.address.host
    pair.wire.fate = lambda datagram: (0.5,) if datagram.path.local.host == slow else (0.01,)
    for _ in range(4):
        if what == "check":
            check(pair, pair.moon, 1)
        else:
            pair.moon.endpoint.commands.create_child(pair.moon_session, "net", pair.wire.now)
    pair.sun.endpoint.commands.rekey_ike(pair.sun_session, pair.wire.now)
    pair.wire.collect()
    assert len(sa_of(pair.moon).sending.outstanding) == 4
    pair.wire.run(60)
    assert len(pair.moon.all(IkeSaRekeyed)) == len(pair.sun.all(IkeSaRekeyed)) == 1
    assert (pair.moon.endpoint.size, pair.sun.endpoint.size) == (1, 1)
    assert len(pair.moon.children) == (1 if what == "check" else 5)
    pair.check_children()


def test_an_address_update_survives_the_end_of_its_ike_sa() -> None:
    """Sun replaces the IKE_SA and deletes the old one before it receives moon's new port."""
    pair = make(sun=4)
    path = sa_of(pair.moon).session.path
    moved = Path(SocketAddress(path.local.host, 40_000), path.remote)
    pair.moon.endpoint.commands.change_path(pair.moon_session, moved, pair.wire.now)
    assert len(pair.moon.endpoint.datagrams_to_send(pair.wire.now)) == 1  # lost
    pair.sun.endpoint.commands.rekey_ike(pair.sun_session, pair.wire.now)
    pair.wire.run(2)
    assert pair.moon.all(IkeSaRekeyed)
    assert pair.sun.last(AddressChanged).new_path.remote.port == 40_000
    assert pair.moon.last(AddressChanged).new_path == moved


@given(
    size=st.integers(1, 8),
    order=st.lists(st.integers(0, 30), max_size=80),
)
def test_the_receive_window_by_its_definition(size: int, order: Sequence[int]) -> None:
    window, answered = ReceiveWindow(size), set[int]()
    for message_id in order:
        lowest = next(number for number in range(100) if number not in answered)
        place = window.place(message_id)
        if message_id in answered and message_id > max(answered) - size:
            assert place == Place.REPEATED
            assert window.answers[message_id] == [bytes([message_id])]
        elif message_id not in answered and lowest <= message_id < lowest + size:
            assert place == Place.FRESH
            window.store(message_id, [bytes([message_id])])
            answered.add(message_id)
        else:
            assert place == Place.OUTSIDE
        assert len(window.answers) <= size


# Everything at once, over a wire that drops, repeats, reorders and delays

FATES: st.SearchStrategy[tuple[float, ...]] = st.one_of(
    st.just(()),
    st.tuples(st.floats(0.001, 0.05)),
    st.tuples(st.floats(0.001, 5)),
    st.tuples(st.floats(0.001, 1), st.floats(0.001, 10)),
)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["moon", "sun"]),
        st.sampled_from(["check", "create_child", "rekey_child", "rekey_ike", "delete_child", "change_path"]),
        st.sampled_from([0.0, 0.0, 0.0, 0.02, 1.0]),
    ),
    max_size=16,
)


class Watch:
    """Looks at every datagram: a message of one direction, exchange and id always has the same bytes."""

    def __init__(self, pair: Pair, fates: Sequence[tuple[float, ...]]) -> None:
        self._pair = pair
        self._fates = list(fates)
        self._seen: dict[tuple[object, ...], bytes] = {}

    def fate(self, datagram: Datagram) -> tuple[float, ...]:
        data = datagram.data.removeprefix(bytes(4))
        header = parse_header(data)
        if header.next_payload in (PayloadType.SK, PayloadType.SKF):
            key = (header.spi_i, header.spi_r, header.from_initiator, header.is_response, header.message_id)
            assert self._seen.setdefault(key, data) == data
        for host in self._pair.wire.hosts:
            for sa in host.endpoint.state.ike_sas.values():
                ids = list(sa.sending.outstanding)
                assert not ids or max(ids) - min(ids) < sa.sending.size
                assert len(sa.receiving.answers) <= sa.receiving.size
        return self._fates.pop(0) if self._fates else (0.01,)


@given(windows=st.tuples(st.integers(1, 8), st.integers(1, 8)), fates=st.lists(FATES, max_size=60), actions=ACTIONS)
@example(
    windows=(8, 8),
    fates=[(0.01,)] * 4 + [(0.3,), (0.2,), (0.1,), (), (0.01, 0.5), (0.01,), (0.01,), ()],
    actions=[("moon", "create_child", 0.0)] * 4 + [("sun", "rekey_ike", 0.0), ("moon", "rekey_ike", 0.0)],
)
@example(  # the peer rekeys a CHILD_SA whose response we have not received
    windows=(1, 1),
    fates=[(0.03,)] * 4 + [(), (0.03,), ()],
    actions=[("moon", "check", 0.02), ("sun", "create_child", 1.0), ("moon", "rekey_child", 0.0)],
)
@example(  # the peer deletes it
    windows=(4, 4),
    fates=[(0.03,)] * 5 + [()],
    actions=[("moon", "delete_child", 1.0), ("sun", "create_child", 1.0), ("moon", "delete_child", 0.0)],
)
@examples(200, suppress_health_check=[HealthCheck.too_slow])
def test_both_sides_agree_with_several_outstanding_requests(
    windows: tuple[int, int], fates: Sequence[tuple[float, ...]], actions: Sequence[tuple[str, str, float]]
) -> None:
    patient = {"dpd_delay": 30.0, "retransmission": Retransmission(tries=8)}
    pair = make_pair(moon={"window_size": windows[0], **patient}, sun={"window_size": windows[1], **patient})
    pair.wire.fate = Watch(pair, fates).fate
    pair.start()
    pair.wire.run(5)
    for side, action, pause in actions:
        act(pair, side, action)
        pair.wire.run(pause)
    pair.wire.run(1500)
    for _ in range(10):  # a liveness check may be outstanding now
        if any(sa.sending for host in pair.wire.hosts for sa in host.endpoint.state.ike_sas.values()):
            pair.wire.run(0.1)
    assert_agreement(pair)


def assert_agreement(pair: Pair) -> None:
    """One IKE_SA on both sides with the same CHILD_SAs, no outstanding request, and the windows that were announced."""
    pair.check_children()
    assert pair.moon.endpoint.size == pair.sun.endpoint.size <= 1
    if not pair.moon.endpoint.size:
        assert not pair.moon.all(IkeSaEstablished) or pair.moon.all(IkeSaDeleted)
        return
    moon, sun = sa_of(pair.moon), sa_of(pair.sun)
    assert (moon.spi_i, moon.spi_r) == (sun.spi_i, sun.spi_r)
    for own, peer in ((moon, sun), (sun, moon)):
        assert not own.sending
        assert not own.queue
        assert own.sending.size == own.session.connection.max_outstanding or (
            own.sending.size == peer.session.connection.window_size
        )
        assert own.receiving.lowest == peer.sending.next_id
