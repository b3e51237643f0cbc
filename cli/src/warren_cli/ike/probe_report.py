"""What a probe found: for people as text, for programs as a dictionary."""

from dataclasses import asdict, dataclass, field
from typing import Any

from warren_ikev2.probe import vendor_name
from warren_ikev2.probe_answer import Features, ProbeVerdict

NO_ANSWER = "no-answer"
_NOT_ANSWERED = (NO_ANSWER, ProbeVerdict.CLOSED.value)
_BROKEN = (ProbeVerdict.INVALID_CHOICE.value, ProbeVerdict.MALFORMED.value, ProbeVerdict.OTHER_VERSION.value)
NOT_IKEV2 = _BROKEN[1:]


@dataclass(frozen=True)
class RequestedGroup:
    """The key exchange group that a gateway requests: IANA's number (transform type 4) and strongSwan's keyword."""

    number: int
    name: str


@dataclass
class ProbeReport:
    """What a gateway answered. `accepted` is None where --all was not asked for."""

    host: str
    port: int
    address: str = ""
    verdict: str = NO_ANSWER
    chosen: str = ""
    requested_group: RequestedGroup | None = None
    gateway: str = ""
    """Where it redirects to (RFC 5685)."""
    reason: str = ""
    milliseconds: float | None = None
    cookies: bool = False
    features: Features = field(default_factory=Features)
    accepted: dict[str, list[str] | None] | None = None
    """None for a type of which nothing is known: its algorithms were only offered with others that the gateway refuses."""
    post_quantum: str = "unknown"
    comparison: str = ""
    would_fail: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        """Whether the host answered."""
        return self.verdict not in _NOT_ANSWERED

    @property
    def broken(self) -> bool:
        """Whether the answer is not valid IKEv2."""
        return self.verdict in _BROKEN

    def as_dict(self) -> dict[str, Any]:
        """For JSON: bytes as text."""
        plain = asdict(self)
        plain["features"]["vendor_ids"] = [vendor_name(item) for item in self.features.vendor_ids]
        return plain


def render_report(report: ProbeReport) -> str:
    """Return the report as text."""
    if not report.answered:
        head = f"{report.host} ({report.address}): {report.verdict}, {report.reason}"
        return "\n".join([head, *(f"  note: {note}" for note in report.notes)])
    head = f"{report.host} ({report.address}) answers in {report.milliseconds} ms: {report.verdict} {report.reason}".rstrip()
    if report.verdict in NOT_IKEV2:
        return "\n".join([head, *([report.comparison] if report.comparison else [])])
    features = report.features
    nat = "not seen" if features.nat is None else {
        (False, False): "none", (True, False): "we are behind one",
        (False, True): "the gateway is behind one", (True, True): "both are behind one",
    }[features.nat.local, features.nat.remote]  # fmt: skip
    lines = [
        head,
        f"  would choose    {report.chosen or '-'}",
        f"  vendor          {', '.join(vendor_name(item) for item in features.vendor_ids) or 'not announced'}",
        f"  NAT             {nat}",
        f"  fragmentation   {'yes' if features.fragmentation else 'no'}",
        f"  signatures      {', '.join(features.signature_hashes) or 'not announced'}",
        f"  post-quantum    {report.post_quantum}",
        f"  cookies         {'demanded' if report.cookies else 'not demanded'}",
    ]
    for kind, keywords in (report.accepted or {}).items():
        lines.append(
            f"  accepts {kind.replace('_', '-'):<13} {'not known' if keywords is None else ', '.join(keywords) or 'none'}"
        )
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(lines + ([report.comparison] if report.comparison else []))
