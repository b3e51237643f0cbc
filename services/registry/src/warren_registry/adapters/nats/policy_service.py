"""The policy service by RPC."""

from collections.abc import Callable

from nats.aio.client import Client

from warren_bus.rpc import call
from warren_contracts import subjects
from warren_contracts.commands import EpochFollowed, FollowEpoch


class PolicyCalls:
    """`epoch.worker.PolicyService` by RPC."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    async def follow(self, command: FollowEpoch) -> EpochFollowed:
        return await call(self._client(), subjects.rpc("policy", "follow_epoch"), command, EpochFollowed)
