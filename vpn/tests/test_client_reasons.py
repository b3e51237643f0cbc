"""What the client says of failures."""

import signal
from ipaddress import ip_address

import pytest

from warren_ikev2.errors import (
    AuthenticationError,
    NoProposalChosenError,
    PeerDeadError,
    PeerNotRespondingError,
    SessionClosedError,
    SessionEndedByPeerError,
    TemporaryFailureError,
)
from warren_vpn.client.reasons import data_process_ended, ended, explain
from warren_vpn.client.servers import ServerCandidate
from warren_vpn.host.plan import ServerEndpoint
from warren_vpn.profiles.profile import ClientProfile


@pytest.mark.parametrize(
    ("exit_code", "how"),
    [
        (-signal.SIGKILL, "by SIGKILL"),
        (-signal.SIGSYS, "by SIGSYS"),
        (1, "with exit code 1"),
        (None, "with exit code None"),
        (-99, "-99"),
    ],
)
def test_the_end_of_a_data_process_is_named(exit_code: int | None, how: str) -> None:
    said = data_process_ended(exit_code)
    assert how in said
    assert "another one is started" in said


CANDIDATE = ServerCandidate("192.0.2.1", 0, ServerEndpoint(ip_address("192.0.2.1"), (500, 4500)), 500, 4500)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PeerNotRespondingError("no answer to IKE_AUTH from 192.0.2.1 within 10 s"), "UDP 500 and 4500 do not pass"),
        (
            NoProposalChosenError("the peer answers with NO_PROPOSAL_CHOSEN"),
            "it has no user, does not admit this host's address",
        ),
        (AuthenticationError("no", by_peer=True), "before it proved that it is x"),
        (AuthenticationError("no", by_peer=True, peer_proven=True), "refused the login of alice: no"),
        (TemporaryFailureError("the peer answers IKE_AUTH with TEMPORARY_FAILURE"), "cannot verify logins now"),
        (OSError(101, "Network is unreachable"), "192.0.2.1: Network is unreachable"),
    ],
)
def test_a_failed_attempt_has_its_remedy(error: Exception, said: str) -> None:
    profile = ClientProfile.model_validate(
        {
            "version": 1, "name": "x", "servers": [{"host": "192.0.2.1"}], "server_identity": "x", "identity": "alice",
            "server_trust": {"kind": "raw-key", "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
            "login": {"kind": "password", "user": "alice"},
        }
    )  # fmt: skip
    assert said in explain(CANDIDATE, profile, error)


def test_the_end_of_a_session_is_said_of_the_server() -> None:
    assert (
        ended(SessionEndedByPeerError("the peer of client has ended the session")) == "the server has ended the session"
    )
    assert ended(PeerDeadError()) == "the server does not answer any more"
    assert ended(SessionClosedError("the IKE_SA of client ended: expired")) == "the IKE_SA of client ended: expired"
