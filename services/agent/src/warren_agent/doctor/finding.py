"""Checks of this host, their results and remedies. Pure."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class CheckVerdict(StrEnum):
    """The result of a check. `unknown`: it could not be made, and its detail gives the reason."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Check(BaseModel):
    """One check. `remedy` is empty if there is nothing to do."""

    model_config = ConfigDict(frozen=True)

    name: str
    verdict: CheckVerdict
    detail: str
    remedy: str = ""


class DoctorReport(BaseModel):
    """All checks of one run."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    version: str
    peer: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> bool:
        return any(check.verdict is CheckVerdict.FAILED for check in self.checks)


def ok(name: str, detail: str) -> Check:
    return Check(name=name, verdict=CheckVerdict.OK, detail=detail)


def warning(name: str, detail: str, remedy: str) -> Check:
    return Check(name=name, verdict=CheckVerdict.WARNING, detail=detail, remedy=remedy)


def failed(name: str, detail: str, remedy: str) -> Check:
    return Check(name=name, verdict=CheckVerdict.FAILED, detail=detail, remedy=remedy)


def unknown(name: str, detail: str) -> Check:
    return Check(name=name, verdict=CheckVerdict.UNKNOWN, detail=detail)


def as_text(report: DoctorReport) -> str:
    """A line for each check, its remedy below it."""
    width = max((len(check.name) for check in report.checks), default=0)
    return "\n".join(line for check in report.checks for line in _lines(check, width))


def _lines(check: Check, width: int) -> Iterable[str]:
    yield f"{check.verdict.value:<8} {check.name:<{width}}  {_printable(check.detail)}"
    if check.remedy:
        yield f"{'':<8} {'':<{width}}  -> {_printable(check.remedy)}"


def _printable(text: str) -> str:
    """The text without control characters: much of it comes from a daemon or a server."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
