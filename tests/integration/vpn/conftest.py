"""The client's bed: a host between two servers, in namespaces. Tests of the server have a bed of their own."""

from collections.abc import Iterator

import pytest

from warren_testkit.lab.vpn_client_bed import VpnBed, make_vpn_bed


@pytest.fixture(scope="module")
def shared() -> Iterator[VpnBed]:
    """The servers of one module's tests."""
    with make_vpn_bed() as made:
        yield made


@pytest.fixture
def bed(shared: VpnBed) -> Iterator[VpnBed]:
    """A host without a client, before and after the test."""
    yield shared
    shared.end_clients()
