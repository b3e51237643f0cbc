"""An SA that both ends close at once: charon finds it, and then it has gone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.convergence import Termination
from warren_agent.drivers.strongswan.errors import ViciCommandError
from warren_agent.drivers.strongswan.vici_codec import Message
from warren_testkit.agent.charon import FakeCharon

# What charon says when the SA went between its search and its lock (vici_control.c, terminate).
TOO_LATE = {"terminate": "terminating SA failed"}


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeCharon]:
    async with FakeCharon(tmp_path / "charon.vici") as made:
        yield made


@pytest.fixture
async def charon(fake: FakeCharon) -> AsyncIterator[CharonClient]:
    made = CharonClient(fake.vici)
    yield made
    await made.close()


def sa(state: str, child: str) -> Message:
    """An IKE_SA of ours with the id 7, and its CHILD_SA with the id 9."""
    children = {"a+b~1-9": {"name": "a+b~1", "uniqueid": "9", "state": child}}
    return {"a+b~1": {"uniqueid": "7", "state": state, "child-sas": children}}


@pytest.mark.parametrize("target", [Termination("ike", 7), Termination("child", 9)], ids=["ike", "child"])
@pytest.mark.parametrize("left", [[], [sa("DELETING", "DELETING")]], ids=["gone", "going"])
async def test_sa_that_went_meanwhile_is_closed(
    fake: FakeCharon, charon: CharonClient, target: Termination, left: list[Message]
) -> None:
    fake.unable, fake.sas = TOO_LATE, left
    await charon.terminate(target)


@pytest.mark.parametrize("target", [Termination("ike", 7), Termination("child", 9)], ids=["ike", "child"])
async def test_sa_that_charon_cannot_close_is_reported(
    fake: FakeCharon, charon: CharonClient, target: Termination
) -> None:
    fake.unable, fake.sas = TOO_LATE, [sa("ESTABLISHED", "INSTALLED")]
    with pytest.raises(ViciCommandError, match="terminating SA failed"):
        await charon.terminate(target)
