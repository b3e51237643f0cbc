"""Names are tokens of subjects: separators and wildcards of NATS are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from warren_contracts import names, subjects

HOSTILE = ["", ">", "*", "a.b", "a b", "A", "x" * 64, "tag=a", "ü", "a\n", "a>", "../a"]

PEER_ID: TypeAdapter[str] = TypeAdapter(names.PeerId)
TAG: TypeAdapter[str] = TypeAdapter(names.Tag)
TUNNEL_NAME: TypeAdapter[str] = TypeAdapter(names.TunnelName)
AUDIENCE: TypeAdapter[str] = TypeAdapter(subjects.Audience)


@pytest.mark.parametrize("text", HOSTILE)
def test_name_hostile_is_refused_everywhere(text: str) -> None:
    assert not names.is_name(text)
    with pytest.raises(ValidationError):
        PEER_ID.validate_python(text)
    for build in (subjects.tag_reader, subjects.peer_reader, subjects.secret):
        with pytest.raises(ValueError, match="invalid name"):
            build(text)
    with pytest.raises(ValueError, match="invalid name"):
        subjects.telemetry(text, "report")


@given(st.text(max_size=80))
def test_name_and_type_agree(text: str) -> None:
    try:
        TAG.validate_python(text)
        accepted = True
    except ValidationError:
        accepted = False
    assert accepted == names.is_name(text)


@given(st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True))
def test_reader_is_one_token(name: str) -> None:
    for reader in (subjects.tag_reader(name), subjects.peer_reader(name)):
        assert len(subjects.policy(reader).split(".")) == 4
        AUDIENCE.validate_python(reader)


@pytest.mark.parametrize(
    ("host", "name"),
    [("GW1.example.org", "gw1"), ("Büro 7", "b-ro-7"), ("---", ""), ("a" * 70, "a" * 63)],
)
def test_name_from_host(host: str, name: str) -> None:
    assert names.name_from_host(host) == name


@given(st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True), st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True))
def test_tunnel_name_is_the_same_at_both_ends(own: str, peer: str) -> None:
    assert names.tunnel_name(own, peer) == names.tunnel_name(peer, own)
    TUNNEL_NAME.validate_python(names.tunnel_name(own, peer))


def test_readers_of_a_peer() -> None:
    assert subjects.readers_of("gw1", ("b", "a", "b")) == ("all", "peer=gw1", "tag=a", "tag=b")


def test_telemetry_subject_round_trip() -> None:
    assert subjects.parse_telemetry(subjects.telemetry("gw1", "report")) == ("gw1", "report")
    for subject in ("warren.v1.telemetry.gw1", "warren.v1.policy.gw1.report", "warren.v1.telemetry.*.report"):
        with pytest.raises(ValueError, match=r"invalid name|not a telemetry"):
            subjects.parse_telemetry(subject)
