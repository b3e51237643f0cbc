"""The contract suite of drivers: the same tests for the fake and for every real one.

A test module makes a class of `DriverContract` and a fixture `bench`: a driver that has found its daemon, tunnel
configurations that its peer accepts, and one that its daemon refuses.
"""

from collections.abc import Callable
from typing import Protocol

import pytest

from warren_agent.drivers.port import ApplyEffect, DaemonTunnelChanged, Driver, DriverEvent
from warren_agent.errors import ConfigRefusedError, UnknownTunnelError
from warren_contracts.status import TunnelState
from warren_contracts.tunnel import Tunnel
from warren_testkit.waiting import eventually


class Bench(Protocol):
    """What the suite needs. `accepted` is good at both ends; `refused` is one that this daemon cannot do."""

    driver: Driver
    accepted: Tunnel
    refused: Tunnel

    async def wait_for(self, wanted: Callable[[DriverEvent], bool]) -> DriverEvent:
        """The first event, from the beginning on, for which `wanted` holds."""


def _is(name: str, state: TunnelState, converged: bool) -> Callable[[DriverEvent], bool]:
    def matches(event: DriverEvent) -> bool:
        return (
            isinstance(event, DaemonTunnelChanged)
            and event.name == name
            and event.status.state is state
            and event.converged is converged
        )

    return matches


class DriverContract:
    """What every driver does."""

    async def test_created_tunnel_is_there_and_down(self, bench: Bench) -> None:
        assert await bench.driver.create_tunnel(bench.accepted) is ApplyEffect.CREATED
        await bench.wait_for(_is(bench.accepted.name, TunnelState.DOWN, converged=False))
        (status,) = await bench.driver.list_tunnels()
        assert (status.name, status.policy, status.peer) == (
            bench.accepted.name,
            bench.accepted.policy,
            bench.accepted.peer,
        )

    async def test_started_tunnel_comes_up_and_is_reported(self, bench: Bench) -> None:
        await bench.driver.create_tunnel(bench.accepted)
        await bench.driver.start_tunnel(bench.accepted.name)
        event = await bench.wait_for(_is(bench.accepted.name, TunnelState.UP, converged=True))
        assert isinstance(event, DaemonTunnelChanged)
        assert len(event.status.link.children) == 1
        assert await bench.driver.sa_info(bench.accepted.name)
        assert (await bench.driver.statistics(bench.accepted.name)).bytes_in == 0

    async def test_start_of_a_settled_tunnel_changes_nothing(self, bench: Bench) -> None:
        await self.test_started_tunnel_comes_up_and_is_reported(bench)
        before = await bench.driver.sa_info(bench.accepted.name)
        await bench.driver.start_tunnel(bench.accepted.name)
        after = await bench.driver.sa_info(bench.accepted.name)
        assert [sa.spi_in for sa in after] == [sa.spi_in for sa in before]

    async def test_same_configuration_again_touches_nothing(self, bench: Bench) -> None:
        await self.test_started_tunnel_comes_up_and_is_reported(bench)
        before = await bench.driver.sa_info(bench.accepted.name)
        assert await bench.driver.update_tunnel(bench.accepted) is ApplyEffect.UNCHANGED
        after = await bench.driver.sa_info(bench.accepted.name)
        assert [sa.spi_in for sa in after] == [sa.spi_in for sa in before]

    async def test_changed_configuration_keeps_what_runs_until_it_is_started(self, bench: Bench) -> None:
        await self.test_started_tunnel_comes_up_and_is_reported(bench)
        link = bench.accepted.link
        edited = link.model_copy(update={"ike": link.ike.model_copy(update={"dpd_delay": 41})})
        changed = bench.accepted.model_copy(update={"link": edited})
        assert await bench.driver.update_tunnel(changed) in (ApplyEffect.UPDATED_IKE, ApplyEffect.UPDATED_CHILD)
        await bench.wait_for(_is(changed.name, TunnelState.UP, converged=False))

    async def test_refused_configuration_names_the_field_and_changes_nothing(self, bench: Bench) -> None:
        await bench.driver.create_tunnel(bench.accepted)
        with pytest.raises(ConfigRefusedError, match="mode"):
            bench.driver.validate(bench.refused)
        with pytest.raises(ConfigRefusedError, match="mode"):
            await bench.driver.update_tunnel(bench.refused)
        assert await bench.driver.create_tunnel(bench.accepted) is not ApplyEffect.UPDATED_IKE

    async def test_renewed_tunnel_has_other_sas_after_its_next_start(self, bench: Bench) -> None:
        await bench.driver.create_tunnel(bench.accepted)
        await bench.driver.start_tunnel(bench.accepted.name)
        await bench.wait_for(_is(bench.accepted.name, TunnelState.UP, converged=True))
        before = await bench.driver.sa_info(bench.accepted.name)
        await bench.driver.renew_tunnel(bench.accepted.name)
        await bench.wait_for(_is(bench.accepted.name, TunnelState.UP, converged=False))
        await bench.driver.start_tunnel(bench.accepted.name)
        spis = {sa.spi_in for sa in before}

        def is_renewed(event: DriverEvent) -> bool:
            if not isinstance(event, DaemonTunnelChanged) or not event.converged:
                return False
            return bool({sa.spi_in for sa in event.status.link.children} - spis)

        await bench.wait_for(is_renewed)

    async def test_rekeyed_tunnel_has_other_keys_and_stays_up(self, bench: Bench) -> None:
        await bench.driver.create_tunnel(bench.accepted)
        await bench.driver.rekey_tunnel(bench.accepted.name)  # of a tunnel that is down: nothing
        await bench.driver.start_tunnel(bench.accepted.name)
        await bench.wait_for(_is(bench.accepted.name, TunnelState.UP, converged=True))
        before = {sa.spi_in for sa in await bench.driver.sa_info(bench.accepted.name)}
        await bench.driver.rekey_tunnel(bench.accepted.name)

        def has_new_keys(event: DriverEvent) -> bool:
            if not isinstance(event, DaemonTunnelChanged) or not event.converged:
                return False
            return bool({sa.spi_in for sa in event.status.link.children} - before)

        await bench.wait_for(has_new_keys)

    async def test_one_child_is_rekeyed_then_closed_and_comes_up_again(self, bench: Bench) -> None:
        name, children = bench.accepted.name, frozenset({bench.accepted.link.children[0].name})
        await bench.driver.create_tunnel(bench.accepted)
        await bench.driver.start_tunnel(name)
        await bench.wait_for(_is(name, TunnelState.UP, converged=True))
        seen = {sa.spi_in for sa in await bench.driver.sa_info(name)}

        def is_new(event: DriverEvent) -> bool:
            if not isinstance(event, DaemonTunnelChanged) or not event.converged:
                return False
            return bool({sa.spi_in for sa in event.status.link.children} - seen)

        await bench.driver.rekey_tunnel(name, ike=False, children=children)
        event = await bench.wait_for(is_new)
        assert isinstance(event, DaemonTunnelChanged)
        seen |= {sa.spi_in for sa in event.status.link.children}
        await bench.driver.stop_tunnel(name, children=children)

        async def is_closed() -> bool:
            return not await bench.driver.sa_info(name)

        await eventually(is_closed)
        await bench.driver.start_tunnel(name)
        await bench.wait_for(is_new)

    async def test_stopped_tunnel_is_down_and_stays_configured(self, bench: Bench) -> None:
        await self.test_started_tunnel_comes_up_and_is_reported(bench)
        await bench.driver.stop_tunnel(bench.accepted.name)

        async def is_down() -> bool:  # the first event of the tunnel said so, too
            return (await bench.driver.tunnel_status(bench.accepted.name)).state is TunnelState.DOWN

        await eventually(is_down)
        assert len(await bench.driver.list_tunnels()) == 1

    async def test_deleted_tunnel_is_gone_and_may_be_deleted_again(self, bench: Bench) -> None:
        await self.test_started_tunnel_comes_up_and_is_reported(bench)
        await bench.driver.delete_tunnel(bench.accepted.name)
        await bench.driver.delete_tunnel(bench.accepted.name)
        assert await bench.driver.list_tunnels() == ()
        with pytest.raises(UnknownTunnelError):
            await bench.driver.tunnel_status(bench.accepted.name)
        with pytest.raises(UnknownTunnelError):
            await bench.driver.start_tunnel(bench.accepted.name)

    async def test_capabilities_name_the_driver(self, bench: Bench) -> None:
        capabilities = await bench.driver.capabilities()
        assert capabilities.kind
        assert capabilities.version
