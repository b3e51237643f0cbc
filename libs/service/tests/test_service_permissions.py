"""Settings, permissions of clients, and streams."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_bus.errors import MissingSettingError
from warren_bus.settings import BusSettings
from warren_contracts.commands import Role
from warren_contracts.telemetry import KINDS
from warren_service.permissions import MAX_TAGS, agent, enrolling, operator
from warren_service.streams import STREAMS, stream_config
from warren_trust.errors import InvalidKeyError
from warren_trust.keys import KeyKind, KeyPair

NAMES = st.from_regex(r"\A[a-z0-9_-]{1,63}\Z")


def test_settings_name_what_is_missing() -> None:
    with pytest.raises(MissingSettingError, match="WARREN_NATS_URL"):
        BusSettings.from_env({})
    with pytest.raises(MissingSettingError, match="WARREN_NKEY_FILE"):
        BusSettings.from_env({"WARREN_NATS_URL": "nats://127.0.0.1:4222"})


def test_settings_take_several_servers_and_hide_the_token() -> None:
    settings = BusSettings.from_env(
        {"WARREN_NATS_URL": "nats://127.0.0.1:4222, nats://127.0.0.1:4223", "WARREN_NKEY_FILE": "/k"}
    )
    assert settings.servers == ("nats://127.0.0.1:4222", "nats://127.0.0.1:4223")
    assert "wj1_" not in repr(BusSettings(("nats://127.0.0.1",), Path("/k"), token="wj1_planted"))


@given(peer=NAMES, tags=st.lists(NAMES, max_size=8).map(tuple))
def test_agent_is_granted_no_wildcard_reader_no_consumer_no_multi_last(peer: str, tags: tuple[str, ...]) -> None:
    rights = agent(peer, tags)
    for subject in (*rights.publish, *rights.subscribe):
        tokens = subject.split(".")
        assert "CONSUMER" not in tokens
        assert "STREAM" not in tokens
        assert "INFO" not in tokens
        assert subject not in {f"$JS.API.DIRECT.GET.{stream}" for stream in STREAMS}
    assert not any("*" in subject or ">" in subject for subject in rights.publish)
    for subject in rights.subscribe:
        if ">" in subject:
            assert subject == f"_INBOX.{peer}.>"
        if "*" in subject:
            assert subject.endswith(".*")
            assert subject.startswith("$JS.ACK.live.warren.v1.directory.")
            assert "*" not in subject[:-1]


@pytest.mark.parametrize("bad", [">", "*", "a.b", "", "A", "a" * 64, "a\n", "a b"])
def test_invalid_names_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="invalid name"):
        agent(bad, ())
    with pytest.raises(ValueError, match="invalid name"):
        agent("gw1", (bad,))
    with pytest.raises(ValueError, match="invalid name"):
        operator(bad, Role.ADMIN)


def test_too_many_tags_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        agent("gw1", tuple(f"t{number}" for number in range(MAX_TAGS + 1)))


def test_subscriptions_of_the_largest_agent_stay_below_the_account_limit() -> None:
    rights = agent("gw1", tuple(f"t{number}" for number in range(MAX_TAGS)))
    assert len(rights.subscribe) < 512 / 2


def test_enrolling_connection_may_do_one_thing() -> None:
    nkey = KeyPair.generate(KeyKind.USER).public
    rights = enrolling(nkey)
    assert rights.publish == (f"warren.v1.rpc.enrol.{nkey}",)
    assert rights.subscribe == (f"_INBOX.{nkey}.>",)
    with pytest.raises(InvalidKeyError):
        enrolling("*")


def test_viewer_cannot_apply() -> None:
    assert "warren.v1.rpc.policy.apply" not in operator("ann", Role.VIEWER).publish
    assert "warren.v1.rpc.policy.apply" in operator("ann", Role.OPERATOR).publish


def test_operators_read_every_live_document_but_sealed_bundles_and_call_no_verb_of_services() -> None:
    for role in Role:
        rights = operator("ann", role)
        assert {"warren.v1.rpc.metrics.tunnels", "warren.v1.rpc.policy.events"} <= {*rights.publish}
        assert "$JS.ACK.live.warren.v1.policy.>" in rights.subscribe
        assert not any("secret" in subject or "*" in subject for subject in (*rights.publish, *rights.subscribe))
        assert not {"warren.v1.rpc.policy.follow_epoch", "warren.v1.rpc.registry.revoke"} & {*rights.publish}


def test_state_streams_are_complete_and_cannot_be_purged() -> None:
    for spec in STREAMS.values():
        config = stream_config(spec)
        assert bool(config.deny_purge) is spec.state
        assert bool(config.allow_atomic) is spec.state
        assert (config.republish is not None) is (spec.state or spec.followed)
        assert not config.allow_rollup_hdrs


def test_one_peer_cannot_fill_a_stream_of_telemetry() -> None:
    limited = [spec for spec in STREAMS.values() if any(".telemetry." in subject for subject in spec.subjects)]
    assert {subject.rsplit(".", 1)[1] for spec in limited for subject in spec.subjects} == set(KINDS)
    for spec in limited:
        assert min(spec.max_of_subject, spec.max_message) > 0
        assert len(spec.subjects) * spec.max_of_subject * spec.max_message <= spec.max_bytes / 8
