"""Completion in a shell, as bash asks for it."""

import shlex

import pytest

from warren_cli.remote import agent
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run

COMPLETED = [
    ("events --kind pre", ["presence"]),
    ("policy show br", ["branches"]),
    ("policy history br", ["branches"]),
    ("peers show spoke-", ["spoke-1", "spoke-2"]),
    ("tunnels show hub+spoke-1", ["hub+spoke-1"]),
    ("tunnels list --peer hu", ["hub"]),
    ("peers show other", []),
]


@pytest.mark.parametrize(("typed", "offered"), COMPLETED)
def test_kinds_and_ids_are_completed(run: Run, api: LiveApi, typed: str, offered: list[str]) -> None:
    for peer in ("hub", "spoke-1", "spoke-2"):
        api.bus.add_peer(peer, "branch")
    api.bus.add_tunnel("hub+spoke-1")
    api.bus.add_tunnel("hub+spoke-2")
    run("policy", "apply", "-", stdin="id: branches\ntopology: {kind: mesh, members: [all]}\n")
    assert complete(run, typed) == offered


def test_nothing_is_said_where_nobody_answers(run: Run) -> None:
    assert complete(run, "peers --url http://127.0.0.1:1 show sp") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("enrol --token", ["--token-file"]),
        ("enrol --endp", ["--endpoints"]),
        ("agent run --tear", ["--teardown"]),
        ("enrol --no", []),
    ],
)
def test_options_of_the_agent_are_completed(
    run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, offered: list[str]
) -> None:
    monkeypatch.setattr(agent, "LIMIT_SECONDS", 60.0)  # a busy machine starts Python slowly
    assert complete(run, typed) == offered


def complete(run: Run, typed: str) -> list[str]:
    """What bash is offered for the last word."""
    words = shlex.split(f"warren {typed}")
    environment = {
        "_WARREN_COMPLETE": "complete_bash",
        "COMP_WORDS": f"warren {typed}",
        "COMP_CWORD": str(len(words) - 1),
    }
    result = run(**environment)
    assert result.stderr == ""
    return result.stdout.split()
