"""`warren ike probe`: sends the questions of `warren_ikev2.probe` and reports the answers."""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from warren_cli.ike.policy import RequestedProposals
from warren_cli.ike.probe_report import NOT_IKEV2, ProbeReport, RequestedGroup
from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.constants import NON_ESP_MARKER, KeGroup, notify_name
from warren_ikev2.probe import (
    LEGACY,
    MODERN,
    POST_QUANTUM,
    Catalogue,
    ProbeRequest,
    unaccepted_types,
)
from warren_ikev2.probe_answer import Answer, ProbeVerdict
from warren_ikev2.suites import Proposal, group_name

TRIES = 3
"""How often a question is sent before the gateway counts as silent."""
MAX_ROUNDS = 4
"""Cookies and other groups asked for, before we give up on one question."""
IKE_PORT, _MARKED_PORT = 500, 4500


@dataclass(frozen=True)
class ProbeTarget:
    """One address of the gateway, as the socket takes it."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    def __str__(self) -> str:
        return str(_address(self.address))


def resolve(host: str, ports: Sequence[int]) -> list[ProbeTarget]:
    """Each address of a name, of both families, at each port in turn. Raises `OSError` for an unknown name."""
    try:
        found = [entry for port in ports for entry in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)]
    except UnicodeError as error:  # of a label that is empty or longer than 63
        raise OSError(errno.EINVAL, "not a host name") from error
    return list(dict.fromkeys(ProbeTarget(family, address) for family, _, _, _, address in found))


class ProbeSocket:
    """One UDP socket to the gateway."""

    def __init__(self, target: ProbeTarget, timeout: float) -> None:
        """Raises `OSError` for an unreachable network."""
        self._socket = socket.socket(target.family, socket.SOCK_DGRAM)
        try:
            self._socket.connect(target.address)
        except OSError:
            self._socket.close()
            raise
        own = self._socket.getsockname()
        self.path = Path(_address(own), _address(target.address))
        self._marker = NON_ESP_MARKER if self.path.remote.port == _MARKED_PORT else b""
        self._timeout = timeout
        self.saw_cookie = False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, make: Callable[[KeGroup | None], ProbeRequest]) -> Answer | None:
        """The final answer: cookies are returned, and with `make` another group is tried if the peer requests it."""
        question = make(None)
        answer = None
        for _ in range(MAX_ROUNDS):
            answer = self._exchange(question)
            if answer is not None and answer.verdict is ProbeVerdict.COOKIE:
                self.saw_cookie = True
                question = question.with_cookie(answer.cookie)
            elif answer is not None and answer.verdict is ProbeVerdict.WANTS_GROUP and answer.group in set(KeGroup):
                following = make(KeGroup(answer.group))
                if following.group == question.group:
                    return answer
                question = following
            else:
                return answer
        return answer

    def _exchange(self, question: ProbeRequest) -> Answer | None:
        message = self._marker + question.build(self.path, os.urandom)
        for _ in range(TRIES):
            try:
                self._socket.send(message)
                answer = self._wait(question)
            except ConnectionRefusedError:
                return Answer(ProbeVerdict.CLOSED, reason=f"UDP port {self.path.remote.port} is closed (ICMP)")
            if answer is not None:
                return answer
        return None

    def _wait(self, question: ProbeRequest) -> Answer | None:
        """Return the first answer of IKEv2, else the first other datagram, so forged junk does not hide the gateway."""
        end = time.monotonic() + self._timeout
        junk: Answer | None = None
        while (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                received = self._socket.recv(65535).removeprefix(self._marker)
                answer = question.read(received, self.path)
                if answer is not None and answer.verdict.value not in NOT_IKEV2:
                    if answer.verdict is ProbeVerdict.ACCEPTED:
                        self._leave(question, received)
                    return answer
                junk = junk or answer
        return junk

    def _leave(self, question: ProbeRequest, response: bytes) -> None:
        """End the half-open IKE_SA that an accepted question has left at the gateway; what it answers is not of interest."""
        request = question.closing(response, os.urandom)
        if request is not None:
            for _ in range(TRIES):
                self._socket.send(self._marker + request)
                if select.select([self._socket], [], [], self._timeout)[0]:
                    self._socket.recv(65535)
                    return


def _address(address: tuple[Any, ...]) -> SocketAddress:
    return SocketAddress(ip_address(str(address[0]).partition("%")[0]), int(address[1]))


def probe(
    host: str,
    port: int | None,
    *,
    every: bool,
    requested: RequestedProposals | None,
    timeout: float,
    legacy: bool = False,
) -> ProbeReport:
    """Probe a gateway: the first address that answers; without a port 500, then 4500. Raises `OSError` if nothing can be sent."""
    silent: list[str] = []
    unreachable: OSError | None = None
    report: ProbeReport | None = None
    for target in resolve(host, (port,) if port is not None else (IKE_PORT, _MARKED_PORT)):
        try:
            found = _probe_address(host, target, every, requested, timeout, LEGACY if legacy else MODERN)
        except OSError as error:
            unreachable = error
            silent.append(f"{target}: {error.strerror or error}")
            continue
        if found.answered:
            found.notes = [*silent, *found.notes]
            return found
        silent.append(f"{target}: {found.verdict}")
        report = report or found
    if report is None:
        raise unreachable or OSError(errno.EADDRNOTAVAIL, "the name has no address")
    report.notes += silent if len(silent) > 1 else []
    return report


def _probe_address(
    host: str,
    target: ProbeTarget,
    every: bool,
    requested: RequestedProposals | None,
    timeout: float,
    catalogue: Catalogue,
) -> ProbeReport:
    asker = ProbeSocket(target, timeout)
    try:
        report = ProbeReport(host, asker.path.remote.port, str(asker.path.remote))
        _ask_first(asker, report, catalogue)
        if report.answered:
            if every and report.verdict not in NOT_IKEV2:
                _ask_each(asker, report, catalogue)
            if requested is not None:
                _compare(asker, report, requested, catalogue)
        report.cookies = asker.saw_cookie
        return report
    finally:
        asker.close()


def _complete(proposals: tuple[Proposal, ...]) -> Callable[[KeGroup | None], ProbeRequest]:
    first = proposals[0].groups[0]
    return lambda group: ProbeRequest.complete(proposals, group or first, os.urandom)


def _stateless(proposals: tuple[Proposal, ...]) -> Callable[[KeGroup | None], ProbeRequest]:
    question = ProbeRequest.stateless(proposals, os.urandom)
    return lambda _: question


def _ask_first(asker: ProbeSocket, report: ProbeReport, catalogue: Catalogue) -> None:
    begin = time.monotonic()
    answer = asker.ask(_complete(catalogue.all()))
    if answer is None:
        report.reason = "the host is unreachable, a firewall drops UDP, or the gateway ignores unknown peers"
        return
    report.verdict, report.reason = answer.verdict.value, _reason(answer)
    if not report.answered:
        return
    report.milliseconds = round((time.monotonic() - begin) * 1000, 2)
    report.features, report.gateway = answer.features, answer.gateway
    report.chosen = str(answer.proposal) if answer.proposal else ""
    if answer.group is not None:
        report.requested_group = RequestedGroup(answer.group, group_name(answer.group))
    if answer.features.intermediate:
        report.post_quantum = "IKE_INTERMEDIATE is supported; --all asks for ML-KEM"
    elif answer.verdict is ProbeVerdict.ACCEPTED:
        report.post_quantum = "not ready: no IKE_INTERMEDIATE (RFC 9242)"


def _reason(answer: Answer) -> str:
    """Return the details of an answer in addition to its verdict."""
    if answer.group is not None:
        return f"{answer.group} ({group_name(answer.group)})"
    if answer.gateway or answer.reason:
        return f"to {answer.gateway}" if answer.gateway else answer.reason
    if answer.notify is None:
        return ""
    return notify_name(answer.notify)


_SAYS = {ProbeVerdict.ACCEPTED: True, ProbeVerdict.WANTS_GROUP: True, ProbeVerdict.REFUSED: False}
"""Whether a verdict shows that the only algorithm offered is accepted; the other verdicts show nothing."""


def _ask_each(asker: ProbeSocket, report: ProbeReport, catalogue: Catalogue) -> None:
    report.accepted = {}
    unclear: dict[str, list[str]] = {}
    kinds = {
        "encryption": catalogue.encryption, "prf": catalogue.prf, "integrity": catalogue.integrity, "group": catalogue.groups,
        "post_quantum": POST_QUANTUM,
    }  # fmt: skip
    for kind, names in kinds.items():
        accepted: list[str] = []
        for name in names:
            answer = asker.ask(_stateless(catalogue.single(name)))
            says = None if answer is None else _SAYS.get(answer.verdict)
            if says:
                accepted.append(name)
            elif says is None:
                unclear.setdefault(_describe(answer), []).append(name)
        report.accepted[kind] = accepted
    if not (report.accepted["encryption"] and report.accepted["group"]):
        # each was offered with the others only: where one type has no common algorithm, all of them are refused
        report.accepted = dict.fromkeys(report.accepted, None)
        hint = "" if catalogue is LEGACY else "; --legacy asks for older ones"
        report.notes.append(f"the gateway accepts no combination of the algorithms that were offered{hint}")
    report.notes += [f"no clear answer for {', '.join(names)}: {why}" for why, names in unclear.items()]
    _conclude_post_quantum(report, {name for names in unclear.values() for name in names})


def _conclude_post_quantum(report: ProbeReport, unclear: set[str]) -> None:
    if found := (report.accepted or {}).get("post_quantum"):
        report.post_quantum = f"ready: {', '.join(found)}"
    elif report.accepted is None or report.accepted["post_quantum"] is None:
        report.post_quantum = "unknown"
    else:
        report.post_quantum = "unknown" if unclear.intersection(POST_QUANTUM) else "not ready: no ML-KEM"


def _describe(answer: Answer | None) -> str:
    return "without an answer" if answer is None else f"{answer.verdict.value} {_reason(answer)}".rstrip()


def _compare(asker: ProbeSocket, report: ProbeReport, requested: RequestedProposals, catalogue: Catalogue) -> None:
    report.notes += [f"{text}: not supported by this program" for text in requested.unknown]
    if not requested.proposals:
        report.comparison = f"{requested.source}: no supported proposal"
        return
    answer = asker.ask(_complete(requested.proposals))
    if answer is not None and answer.verdict is ProbeVerdict.ACCEPTED:
        report.comparison = f"{requested.source}: would negotiate {answer.proposal}"
        return
    report.would_fail = True
    if answer is None or answer.verdict is not ProbeVerdict.REFUSED:
        report.comparison = f"{requested.source}: would fail, {_describe(answer)}"
        return
    if report.accepted is None:
        _ask_each(asker, report, catalogue)
    known = [name for names in (report.accepted or {}).values() for name in names or ()]
    reasons = [
        f"{proposal}: {('; '.join(unaccepted_types(proposal, known)) if known else '') or 'not in this combination'}"
        for proposal in requested.proposals
    ]
    report.comparison = f"{requested.source}: would fail with NO_PROPOSAL_CHOSEN because {' | '.join(reasons)}"
