"""The released models: those whose JSON other programs read or write."""

from pydantic import BaseModel

from warren_contracts import documents, peers, policy, telemetry
from warren_contracts.base import Input
from warren_contracts.events import EVENTS
from warren_contracts.live import LiveMessage
from warren_contracts.problems import Problem
from warren_contracts.verbs import COMMANDS

_DOCUMENTS: tuple[type[BaseModel], ...] = (
    policy.PolicySet,
    peers.PeerRecord,
    documents.ReaderDigest,
    documents.TrustDocument,
    documents.SignedDocument,
    documents.Whoami,
    documents.DirectoryPage,
    LiveMessage,
)
TELEMETRY: dict[str, type[BaseModel]] = {
    telemetry.PRESENCE: telemetry.Presence,
    telemetry.REPORT: telemetry.Report,
    telemetry.TUNNEL: telemetry.TunnelChange,
    telemetry.APPLIED: telemetry.Applied,
    telemetry.REASON: telemetry.AttemptFailure,
}


def released_models() -> dict[str, type[BaseModel]]:
    """Every released model by name; raises ValueError for a name that is used twice."""
    released: list[type[BaseModel]] = [*_DOCUMENTS, *EVENTS, *TELEMETRY.values(), Problem]
    released += [model for command in COMMANDS for model in (command.request, command.reply)]
    models: dict[str, type[BaseModel]] = {}
    for model in released:
        if models.setdefault(model.__name__, model) is not model:
            raise ValueError(f"two released models have the name {model.__name__}")
    return dict(sorted(models.items()))


def is_stated(model: type[BaseModel]) -> bool:
    """Whether clients send the model (it is validated strictly), as opposed to documents for readers of any version."""
    return issubclass(model, Input)
