"""The rules by which changes are taken back: the table of phases, what supersedes a change, and the time of the confirmation. Pure."""

import json
from pathlib import Path

import pytest

from warren_agent.domain.changes import (
    LOSS_LIMIT,
    ROLLED_BACK,
    TRANSITIONS,
    ChangePhase,
    ChangeVerdict,
    Occurrence,
    PendingChange,
    Versions,
    Window,
    advance,
    also_protected,
    begin,
    current,
    fingerprint,
    in_effect,
    observe,
    verdict,
)
from warren_agent.state.changes_file import ChangesFile
from warren_contracts.tunnel import Tunnel
from warren_intent.protection import protected_by
from warren_testkit.intent import ipsec_tunnel

NAME = "hub+spoke"
OLD, NEW = ipsec_tunnel(), ipsec_tunnel(ike={"dpd_delay": 44})
SEVEN = Versions(1, 7, {"p1": 7})


def change(
    phase: ChangePhase, former: Tunnel | None = OLD, new: Tunnel | None = NEW, retried: bool = False
) -> PendingChange:
    return PendingChange(NAME, former, fingerprint(new), SEVEN.of(new), phase, retried)


def phases(*occurrences: Occurrence, start: ChangePhase = ChangePhase.TRIAL) -> list[ChangePhase | None]:
    """The phases that follow each other."""
    found: list[ChangePhase | None] = []
    state: PendingChange | None = change(start)
    for occurrence in occurrences:
        assert state is not None
        state = advance(state, occurrence)
        found.append(None if state is None else state.phase)
    return found


def test_new_configuration_that_comes_up_waits_for_the_bus_only() -> None:
    assert phases(Occurrence.CONVERGED, Occurrence.CONFIRMED) == [ChangePhase.APPLIED, None]


def test_new_configuration_that_does_not_come_up_is_replaced_by_the_former_one() -> None:
    assert phases(Occurrence.EXPIRED, Occurrence.CONVERGED, Occurrence.CONFIRMED) == [
        ChangePhase.FALLBACK, ChangePhase.HELD, ChangePhase.HELD,
    ]  # fmt: skip


def test_dead_peer_ends_with_the_new_configuration_and_no_loop() -> None:
    happened = [Occurrence.EXPIRED] * 5
    assert phases(*happened) == [
        ChangePhase.FALLBACK,
        ChangePhase.FINAL,
        ChangePhase.FINAL,
        ChangePhase.FINAL,
        ChangePhase.FINAL,
    ]
    assert phases(Occurrence.CONVERGED, Occurrence.CONFIRMED, start=ChangePhase.FINAL) == [ChangePhase.APPLIED, None]


def test_peer_that_gets_the_change_later_makes_this_end_try_it_once_more() -> None:
    happened = [Occurrence.PEER_DIFFERS, Occurrence.EXPIRED, Occurrence.CONVERGED, Occurrence.PEER_DIFFERS]
    assert phases(*happened, start=ChangePhase.HELD) == [
        ChangePhase.TRIAL,
        ChangePhase.FALLBACK,
        ChangePhase.HELD,
        ChangePhase.HELD,
    ]


def test_change_that_cut_the_bus_off_is_never_tried_again_by_itself() -> None:
    for start in (ChangePhase.APPLIED, ChangePhase.TRIAL, ChangePhase.FALLBACK, ChangePhase.FINAL):
        assert phases(Occurrence.CUT_OFF, Occurrence.PEER_DIFFERS, start=start) == [ChangePhase.HELD, ChangePhase.HELD]


@pytest.mark.parametrize("phase", ChangePhase)
@pytest.mark.parametrize("occurrence", Occurrence)
def test_every_pair_of_the_table_has_a_result(phase: ChangePhase, occurrence: Occurrence) -> None:
    after = advance(change(phase), occurrence, "why")
    assert (None if after is None else after.phase) == TRANSITIONS.get((phase, occurrence), phase)


@pytest.mark.parametrize("phase", sorted(ROLLED_BACK))
def test_rolled_back_change_is_superseded_by_other_configuration_or_a_newer_revision(phase: ChangePhase) -> None:
    changes = {NAME: change(phase)}
    assert current(changes, {NAME: NEW}, SEVEN) == changes
    assert current(changes, {NAME: NEW}, Versions(1, 9, {"p1": 7})) == changes  # another policy was published
    assert current(changes, {NAME: NEW}, Versions(1, 9, {"p1": 9})) == {}
    assert current(changes, {NAME: NEW}, Versions(2, 1, {"p1": 1})) == {}  # the registry was restored
    assert current(changes, {NAME: OLD}, SEVEN) == {}
    assert current(changes, {}, SEVEN) == {}


def test_rolled_back_deletion_is_superseded_by_the_next_revision() -> None:
    changes = {NAME: change(ChangePhase.HELD, new=None)}
    assert current(changes, {}, SEVEN) == changes
    assert current(changes, {}, Versions(1, 8, {})) == {}
    assert in_effect(changes, []) == (OLD,)


def test_what_was_rolled_back_is_in_effect_in_place_of_what_is_derived() -> None:
    other = ipsec_tunnel(name="hub+other")
    assert in_effect({NAME: change(ChangePhase.HELD)}, [NEW, other]) == (other, OLD)
    assert in_effect({NAME: change(ChangePhase.HELD, former=None)}, [NEW, other]) == (other,)
    assert in_effect({NAME: change(ChangePhase.TRIAL)}, [NEW, other]) == (other, NEW)


def test_change_begins_as_a_trial_if_the_tunnel_carried_traffic() -> None:
    found = begin({}, {NAME: OLD}, {NAME: NEW}, SEVEN, {NAME})
    assert found == {NAME: change(ChangePhase.TRIAL)}
    assert begin({}, {NAME: OLD}, {NAME: NEW}, SEVEN, ())[NAME].phase is ChangePhase.APPLIED
    on_demand = ipsec_tunnel(auto_start=False)
    assert begin({}, {NAME: OLD}, {NAME: on_demand}, SEVEN, {NAME})[NAME].phase is ChangePhase.APPLIED
    assert begin({}, {NAME: OLD}, {}, SEVEN, {NAME}) == {NAME: change(ChangePhase.APPLIED, new=None)}
    assert begin({}, {}, {NAME: NEW}, SEVEN, {NAME}) == {NAME: change(ChangePhase.APPLIED, former=None)}
    assert begin({}, {NAME: NEW}, {NAME: NEW}, SEVEN, {NAME}) == {}


def test_second_edit_keeps_what_the_first_would_be_taken_back_to() -> None:
    third = ipsec_tunnel(ike={"dpd_delay": 55})
    found = begin({NAME: change(ChangePhase.TRIAL)}, {NAME: NEW}, {NAME: third}, SEVEN, ())
    assert (found[NAME].former, found[NAME].refused, found[NAME].phase) == (OLD, fingerprint(third), ChangePhase.TRIAL)


def test_edit_that_the_operator_takes_back_leaves_no_change() -> None:
    assert begin({NAME: change(ChangePhase.TRIAL)}, {NAME: NEW}, {NAME: OLD}, SEVEN, {NAME}) == {}


@pytest.mark.parametrize("phase", [ChangePhase.FALLBACK, ChangePhase.HELD, ChangePhase.FINAL])
def test_the_way_back_is_no_change_of_its_own(phase: ChangePhase) -> None:
    changes = {NAME: change(phase)}
    assert begin(changes, {NAME: NEW}, {NAME: OLD}, SEVEN, {NAME}) == changes
    assert begin(changes, {NAME: OLD}, {NAME: NEW}, SEVEN, {NAME}) == changes


def test_fingerprint_survives_a_round_through_json() -> None:
    assert fingerprint(Tunnel.model_validate(json.loads(NEW.model_dump_json()))) == fingerprint(NEW)
    assert fingerprint(NEW) != fingerprint(OLD)
    assert fingerprint(None) == ""


def test_traffic_of_the_former_configuration_stays_protected() -> None:
    wider = ipsec_tunnel(child={"remote_ts": ["10.0.0.0/16", "10.9.0.0/16"]})
    own = protected_by(OLD)
    assert own is not None
    (both,) = also_protected([own], [wider])
    assert both.pairs[0] == own.pairs[0]
    assert {str(it) for it in both.pairs[1].remote} == {"10.0.0.0/16", "10.9.0.0/16"}
    assert also_protected([], [OLD]) == (own,)
    assert also_protected([own], [OLD]) == (own,)


def test_time_for_the_confirmation() -> None:
    window = Window(100.0)
    assert verdict(window, 99.0) is ChangeVerdict.OPEN
    assert verdict(window, 100.0) is ChangeVerdict.CONFIRMED
    lost = observe(observe(window, False, 30.0), False, 40.0)
    assert (lost.lost_since, verdict(lost, 99.0), verdict(lost, 100.0)) == (
        30.0,
        ChangeVerdict.OPEN,
        ChangeVerdict.CUT_OFF,
    )
    assert verdict(observe(lost, True, 99.0), 100.0) is ChangeVerdict.CONFIRMED
    late = observe(window, False, 99.0)
    assert verdict(late, 99.0 + LOSS_LIMIT - 0.1) is ChangeVerdict.OPEN
    assert verdict(late, 99.0 + LOSS_LIMIT) is ChangeVerdict.CUT_OFF


def test_file_holds_the_changes(tmp_path: Path) -> None:
    file = ChangesFile(tmp_path / "changes.json")
    assert file.read() == []
    held = [
        change(ChangePhase.TRIAL), change(ChangePhase.HELD, new=None, retried=True),
        change(ChangePhase.APPLIED, former=None),
    ]  # fmt: skip
    file.write(held)
    assert file.read() == held
    file.write([])
    assert not (tmp_path / "changes.json").exists()


@pytest.mark.parametrize("text", ["", "{", "{}", '[{"name": "x"}]', '[{"name": 1}]'])
def test_damaged_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "changes.json").write_text(text)
    with pytest.raises(ValueError, match=r"changes\.json is damaged"):
        ChangesFile(tmp_path / "changes.json").read()


def test_damaged_former_configuration_is_an_error(tmp_path: Path) -> None:
    file = ChangesFile(tmp_path / "changes.json")
    file.write([change(ChangePhase.HELD)])
    path = tmp_path / "changes.json"
    path.write_text(path.read_text().replace('"peer":"hub"', '"peer":"../hub"'))
    with pytest.raises(ValueError, match="damaged"):
        file.read()
