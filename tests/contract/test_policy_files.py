"""Configurations as people have them elsewhere, written as policies: `warren policy check` takes each, or says what to write.

A file ends with comments: `# expect: taken`, or a part of each finding.
"""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from warren_cli.main import app
from warren_contracts.commands import ApplyPolicies, ApplyReply, Role
from warren_policy.domain.derived import DerivedSets
from warren_policy.domain.proof import prove
from warren_policy.domain.revisions import PolicySnapshot, plan_apply
from warren_testkit.api import TOKENS, FakeBus
from warren_testkit.api.live import LiveApi
from warren_testkit.intent import record

FILES = sorted((Path(__file__).parents[1] / "data" / "policies").glob("*.yaml"))
TAGS = {"moon": ("firewall",), "sun": ("firewall",), "server": ("firewall",), "cloud": ("cloud",), "gw0": ("branch",), "gw1": ("branch",),
        "hub-1": ("hub",), "hub-2": ("hub",), "laptop": ("laptop",)}  # fmt: skip
PEERS = [*TAGS, *(f"gw{number}" for number in range(2, 12))]
EXPECT = "# expect: "


class CheckingBus(FakeBus):
    """Its policy service checks as the real one does, against a fleet that has what the files name."""

    def _policy_apply(self, command: ApplyPolicies) -> ApplyReply:
        records = {peer: record(peer, number, *TAGS.get(peer, ())) for number, peer in enumerate(PEERS, 1)}
        change = plan_apply(PolicySnapshot(1, 0, MappingProxyType({}), MappingProxyType({})), command)
        warnings = prove(
            change, command, DerivedSets().of(change, records), {tag for tags in TAGS.values() for tag in tags}
        )
        return self._applied(created=change.created, warnings=warnings)


@pytest.fixture
def url() -> Iterator[str]:
    with capture_logs(), LiveApi(bus=CheckingBus()) as live:
        yield live.url


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_configuration_is_taken_or_refused_with_what_to_write(url: str, file: Path, tmp_path: Path) -> None:
    expected = [line.removeprefix(EXPECT) for line in file.read_text().splitlines() if line.startswith(EXPECT)]
    assert expected
    token = tmp_path / "token"
    token.write_text(TOKENS[Role.OPERATOR])
    token.chmod(0o600)
    command = ["policy", "check", str(file), "--url", url, "--token-file", str(token)]
    result = CliRunner().invoke(app, command)
    refusals = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    if expected == ["taken"]:
        assert (result.exit_code, refusals) == (0, []), result.stderr
        return
    assert result.exit_code == 1
    for part in expected:
        assert any(part in line for line in refusals), (part, refusals)
    assert len(refusals) <= len(expected)
