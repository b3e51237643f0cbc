"""A hub and two spokes on one wire, each with a charon whose data plane is the kernel's; kept for the whole run.

Every test must leave the kernels as empty as it found them, and AppArmor with nothing to say.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from warren_lab.charon_conf import IpsecBackend
from warren_lab.errors import CommandFailedError
from warren_lab.lab import Lab, can_make_namespaces
from warren_lab.namespace import Namespace
from warren_lab.xfrm import charon_routes, kernel_policies, kernel_sas
from warren_testkit.lab.gateways import Gateway, Watched
from warren_testkit.lab.kernel import KernelFleet, KernelLog, join, make_wire
from warren_testkit.waiting import eventually

PROFILES = Path("/sys/kernel/security/apparmor/profiles")
NAMES = ("hub", "spoke-1", "spoke-2")
SAID: list[str] = []


def cannot_run(reason: str) -> NoReturn:
    """Skips; but in the virtual machine, which is made for these tests, it fails."""
    if os.environ.get("WARREN_TEST_VM"):
        pytest.fail(reason)
    pytest.skip(reason)


def why_no_kernel_esp(namespace: Namespace) -> str:
    """Why this kernel cannot be the data plane; empty where it can."""
    ends = ["src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x1000"]
    key = ["aead", "rfc4106(gcm(aes))", f"0x{'00' * 36}", "128"]
    try:
        namespace.run("ip", "xfrm", "state", "add", *ends, "mode", "tunnel", *key)
    except CommandFailedError as error:
        said = str(error).rpartition(": ")[2]
        return f"this kernel has no ESP ({said}); make test-kernel boots one that has"
    namespace.run("ip", "xfrm", "state", "flush")
    return ""


@pytest.fixture(scope="session")
def wired() -> Iterator[tuple[Lab, Namespace]]:
    """A lab, and its wire."""
    if not can_make_namespaces():
        cannot_run("needs root")
    with Lab("wk") as lab:
        wire = lab.namespace("wire")
        if why := why_no_kernel_esp(wire):
            cannot_run(why)
        make_wire(wire)
        yield lab, wire


@pytest.fixture(scope="session")
def gateways(wired: tuple[Lab, Namespace]) -> tuple[Gateway, ...]:
    """Their charons run."""
    lab, wire = wired
    made = tuple(Gateway(lab, name, number, plane=IpsecBackend.KERNEL) for number, name in enumerate(NAMES, 1))
    for gateway in made:
        join(wire, gateway.namespace, gateway.name, gateway.address)
        gateway.charon.start()
    return made


@pytest.fixture(scope="session")
def other_host(wired: tuple[Lab, Namespace]) -> tuple[str, Namespace]:
    """An address on the wire, and its namespace, where no charon runs."""
    lab, wire = wired
    namespace = lab.namespace("other")
    join(wire, namespace, "other", "192.0.2.9")
    return "192.0.2.9", namespace


@pytest.fixture
def kernel_log(wired: tuple[Lab, Namespace]) -> Iterator[KernelLog]:
    """What the kernel says while the test runs."""
    log = KernelLog()
    yield log
    log.close()


@pytest.fixture(autouse=True)
def nothing_is_denied(kernel_log: KernelLog, request: pytest.FixtureRequest) -> Iterator[None]:
    """AppArmor has denied nothing to a charon or swanctl of this test, unless the test wants to see a denial."""
    yield
    if request.node.get_closest_marker("denied") is None:
        assert kernel_log.denials() == []


async def is_empty(gateway: Gateway) -> bool:
    """Whether no SA, policy, route or IKE_SA is left of any tunnel."""
    namespace = gateway.namespace
    kernel = [*kernel_sas(namespace), *kernel_policies(namespace), *charon_routes(namespace)]
    return not kernel and not await gateway.ike_sas()


@pytest.fixture
async def empty_afterwards(gateways: tuple[Gateway, ...]) -> AsyncIterator[None]:
    """Everything that a test made is gone from the kernels; what charon said of it is printed where the test fails."""
    marks = [len(gateway.log) for gateway in gateways]
    yield
    for gateway, mark in zip(gateways, marks, strict=True):
        print(f"--- charon of {gateway.name}\n{gateway.log[mark:][-4000:]}")
    for gateway in gateways:
        await eventually(partial(is_empty, gateway), 90.0)


@pytest.fixture
async def fleet(gateways: tuple[Gateway, ...], empty_afterwards: None) -> AsyncIterator[KernelFleet]:
    """A driver on each gateway, which takes its tunnels down afterwards."""
    drivers = tuple(Watched(gateway) for gateway in gateways)
    for driver in drivers:
        await driver.start()
    yield KernelFleet(gateways, drivers)
    await asyncio.gather(*(driver.stop(teardown=True) for driver in drivers))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """For a figure that was measured: it is printed at the end of the run."""
    return lambda text: SAID.append(f"{request.node.name}: {text}")


@pytest.fixture(scope="session")
def confined() -> None:
    """Skips, with the reason, where the kernel does not enforce Debian's profile of charon."""
    loaded = PROFILES.read_text() if PROFILES.exists() else ""
    if "/usr/lib/ipsec/charon (enforce)" not in loaded:
        pytest.skip(
            "AppArmor does not enforce a profile of charon here (make test-kernel boots a kernel where it does)"
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SAID:
        terminalreporter.section("measured")
    for line in SAID:
        terminalreporter.write_line(line)
