"""Why a tunnel is not up: one cause, one sentence that joins both ends, what to do, and what it was concluded from."""

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

from warren_contracts.base import Document
from warren_contracts.names import TunnelName
from warren_contracts.status import TunnelState


class Cause(StrEnum):
    """What is wrong with a tunnel, by what both ends say. The set is closed, so that it can label a metric."""

    NONE = "none"
    # nobody says anything, or only one end does
    AGENTS_SILENT = "agents-silent"  # no end has a current report
    PEER_SILENT = "peer-silent"  # the peer's agent is offline, and the other end does not reach it either
    DAEMON_UNREACHABLE = "daemon-unreachable"  # the daemon of an end does not answer its agent
    # the intent
    NOT_DERIVED = "not-derived"  # an end derives no such tunnel from the policies
    NO_INITIATOR = "no-initiator"  # no end starts it
    STANDBY = "standby"  # another tunnel carries the traffic
    ROLLED_BACK = "rolled-back"
    CUTS_OFF = "cuts-off"  # it would cut an end off from the bus or its LAN
    # the path
    BLOCKED_UDP_500 = "blocked-udp-500"  # no IKE_SA_INIT is answered, although both daemons run
    BLOCKED_UDP_4500 = "blocked-udp-4500"  # IKE_SA_INIT is answered, IKE_AUTH is not
    NO_ANSWER = "no-answer"  # a gateway of which nothing else is known does not answer
    PATH_LOST = "path-lost"  # an established IKE_SA is not answered any more
    NAT_MAPPING_LOST = "nat-mapping-lost"  # the same, and an end is behind NAT
    ADDRESS_FAILED = "address-failed"
    # the negotiation
    PROPOSAL_MISMATCH_IKE = "proposal-mismatch-ike"
    PROPOSAL_MISMATCH_CHILD = "proposal-mismatch-child"
    SELECTORS_REFUSED = "selectors-refused"
    NARROWED = "narrowed"
    AUTHENTICATION_FAILED = "authentication-failed"
    IDENTITY_MISMATCH = "identity-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_UNKNOWN = "certificate-unknown"
    CERTIFICATE_REVOKED = "certificate-revoked"
    CERTIFICATE_INVALID = "certificate-invalid"
    CLOCK_SKEW = "clock-skew"
    INSTALL_FAILED = "install-failed"
    CONFIG_REFUSED = "config-refused"
    CONFIG_DRIFT = "config-drift"
    RIVAL_CONNECTION = "rival-connection"
    GUARD_UNAVAILABLE = "guard-unavailable"
    # SAs are there, and packets do not pass
    ONE_END_ONLY = "one-end-only"  # one end has CHILD_SAs, the other has none
    ONE_WAY_TRAFFIC = "one-way-traffic"
    DUPLICATE_SAS = "duplicate-sas"
    MASQUERADE = "masquerade"
    FORWARDING_OFF = "forwarding-off"
    FORWARD_DROP = "forward-drop"
    RP_FILTER = "rp-filter"
    PATH_PROBE_FAILED = "path-probe-failed"
    PATH_MTU = "path-mtu"
    OTHER = "other"


Sentence = Annotated[str, StringConstraints(max_length=2_048)]


class Explanation(Document, defer_build=True):
    """Why a tunnel is in its state. `facts` are what each end and each agent says, with its age where it has one."""

    tunnel: TunnelName
    state: TunnelState
    cause: Cause
    sentence: Sentence
    action: Sentence = ""  # what to do; empty: nothing
    facts: tuple[Sentence, ...] = ()
