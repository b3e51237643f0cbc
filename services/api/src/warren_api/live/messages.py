"""Snapshots and changes as messages for one reader, in parts of bounded size. Rows are JSON already."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from warren_api.live.filters import LiveFilter
from warren_api.live.model import LiveChange, LiveModel, Row, RowChange, RowT
from warren_contracts.commands import Health
from warren_contracts.live import LivePeer, LivePolicy, LiveTunnel

PART = 500  # rows of one message: some 150 kB


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """One message: its kind, its JSON (see `warren_contracts.live.LiveMessage`), and the cursor that it has."""

    kind: str
    body: str
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class RowSnapshot:
    """All rows at a moment."""

    tunnels: Sequence[Row[LiveTunnel]]
    peers: Sequence[Row[LivePeer]]
    policies: Sequence[Row[LivePolicy]]

    @classmethod
    def of(cls, model: LiveModel) -> "RowSnapshot":
        """The rows of a model as it is now."""
        return cls(list(model.tunnels.values()), list(model.peers.values()), list(model.policies.values()))


def snapshot(rows: RowSnapshot, wanted: LiveFilter, health: Health | None) -> Iterator[LiveFrame]:
    """The messages of a snapshot; there is always one, since it makes void what a reader had."""
    policies = [row.json for row in rows.policies if wanted.matches(row.value)]
    peers = [row.json for row in rows.peers if wanted.matches(row.value)]
    tunnels = [row for row in rows.tunnels if wanted.matches(row.value)]
    said = {"health": health.model_dump_json()} if health is not None else {}
    yield _message("snapshot", {"policies": _list(policies), "peers": _list(peers), **said})
    for at in range(0, len(tunnels), PART):
        yield _message("snapshot", {"tunnels": _list(row.json for row in tunnels[at : at + PART])})


def ready(cursor: int | None) -> LiveFrame:
    """The snapshot is complete, or the stream resumes."""
    return _message("ready", {}, cursor)


def changed(change: LiveChange, wanted: LiveFilter) -> Iterator[LiveFrame]:
    """The messages of a change; none if it does not concern the reader."""
    fields: dict[str, list[str]] = {}
    for name, rows in (("peers", change.peers), ("policies", change.policies)):
        shown, gone = _split(rows, wanted)  # type: ignore[misc] # of either kind
        fields |= {name: shown} if shown else {}
        fields |= {f"{name}_gone": gone} if gone else {}
    tunnels, gone = _split(change.tunnels, wanted)
    yield from rows_changed({**fields, "tunnels_gone": gone}, tunnels, change.cursor)


def rows_changed(fields: Mapping[str, list[str]], tunnels: list[str], cursor: int | None) -> Iterator[LiveFrame]:
    """The messages of rows that are JSON, by their fields, and of tunnels, in parts; none without any row."""
    found = {name: rows for name, rows in fields.items() if rows}
    if not tunnels and not found:
        return
    while len(tunnels) > PART:
        yield _message("change", {"tunnels": _list(tunnels[:PART])})
        tunnels = tunnels[PART:]
    found |= {"tunnels": tunnels} if tunnels else {}
    yield _message("change", {name: _list(rows) for name, rows in found.items()}, cursor)


def health_changed(health: Health) -> LiveFrame:
    """The health of the services."""
    return _message("health", {"health": health.model_dump_json()})


def dropped(reason: str) -> LiveFrame:
    """The end of a stream, and why."""
    return _message("dropped", {"reason": json.dumps(reason)})


def _split(rows: Sequence[RowChange[RowT]], wanted: LiveFilter) -> tuple[list[str], list[str]]:
    """The JSON of the rows that match now, and of the names of those that no longer do."""
    shown: list[str] = []
    gone: list[str] = []
    for row in rows:
        if row.after is not None and wanted.matches(row.after.value):
            shown.append(row.after.json)
        elif row.before is not None and wanted.matches(row.before.value):
            gone.append(json.dumps(row.name))
    return shown, gone


def _list(rows: Iterable[str]) -> str:
    return f"[{','.join(rows)}]"


def _message(kind: str, fields: dict[str, str], cursor: int | None = None) -> LiveFrame:
    parts = [f'"kind":"{kind}"']
    parts += [f'"cursor":"{cursor}"'] if cursor is not None else []
    parts += [f'"{name}":{value}' for name, value in fields.items()]
    return LiveFrame(kind, f"{{{','.join(parts)}}}", cursor)
