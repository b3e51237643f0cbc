"""All checks of one host, in the order in which a problem is found best."""

from datetime import UTC, datetime

from warren_agent import __version__
from warren_agent.doctor.bus import check_agent, check_servers
from warren_agent.doctor.daemon import check_charon, check_guard
from warren_agent.doctor.finding import Check, DoctorReport, unknown
from warren_agent.doctor.host import check_addresses, check_kernel, check_mtu, check_state_folder
from warren_agent.drivers.catalogue import DEFAULT_KIND
from warren_agent.drivers.strongswan.settings import StrongswanPaths, paths_of
from warren_agent.errors import AgentError
from warren_agent.settings import AgentSettings
from warren_agent.state.store import Enrolment, StateStore


async def examine(settings: AgentSettings) -> DoctorReport:
    """Look at everything. Changes nothing, sends nothing to a peer, and never fails."""
    store = StateStore(settings.state)
    identity = _identity(store)
    checks: list[Check] = [*check_state_folder(store), check_agent(store.folder), *check_kernel()]
    remotes: list[str] = []
    if (paths := charon_paths(settings)) is not None:
        found, remotes = await check_charon(paths)
        checks += found
    else:
        checks.append(unknown("daemon", f"no checks for {', '.join(settings.drivers)}"))
    checks += await check_guard()
    checks += [*check_addresses(settings), *check_mtu(remotes)]
    checks += await check_servers(settings.servers or (identity.servers if identity else ()), store.ca_file)
    return DoctorReport(
        at=datetime.now(UTC), version=__version__, peer=identity.peer if identity else "", checks=tuple(checks)
    )


def _identity(store: StateStore) -> Enrolment | None:
    try:
        return store.identity()
    except AgentError:
        return None


def charon_paths(settings: AgentSettings) -> StrongswanPaths | None:
    """charon's sockets; None where strongSwan is not a driver of this host."""
    table = settings.drivers.get(DEFAULT_KIND)
    return None if table is None else paths_of(table)
