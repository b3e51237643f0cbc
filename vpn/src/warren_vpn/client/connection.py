"""The IKE client of one attempt, from the profile."""

from collections.abc import Callable
from dataclasses import dataclass

from warren_ikev2.aio.client import Client, ClientBuilder
from warren_ikev2.credentials import LocalAuth, RemoteAuth
from warren_ikev2.dataplane.tun import OffloadTun
from warren_vpn.client import timing
from warren_vpn.client.servers import ServerCandidate
from warren_vpn.profiles.profile import ClientProfile


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of both sides. Neither prints its secrets."""

    local: LocalAuth
    remote: RemoteAuth


def build_client(
    profile: ClientProfile,
    credentials: Credentials,
    candidate: ServerCandidate,
    hosts: tuple[str, ...],
    tun: OffloadTun,
    on_ended: Callable[[int | None], None],
) -> Client:
    """The client of a tunnel. `hosts`: this host's addresses, announced for MOBIKE; `on_ended`: called when its data process has ended.

    Raises `ConfigurationError`.
    """
    versions = sorted({network.version for network in profile.routes})
    builder = _builder(profile, credentials, candidate)
    builder.with_networks(remote=[str(network) for network in profile.routes])
    builder.with_virtual_address(*versions).with_local_addresses(*hosts)
    return builder.with_data_plane(tun, on_ended=on_ended).build()


def build_inquiry(profile: ClientProfile, credentials: Credentials, candidate: ServerCandidate) -> Client:
    """A client without traffic, which only finds out whether a server is there and authenticates. Raises `ConfigurationError`."""
    return _builder(profile, credentials, candidate).childless().build()


def _builder(profile: ClientProfile, credentials: Credentials, candidate: ServerCandidate) -> ClientBuilder:
    builder = Client.builder().with_local_id(profile.identity).with_remote_id(profile.server_identity)
    builder.with_auth(credentials.local, credentials.remote)
    builder.with_proposals(profile.ike_algorithms, profile.esp_algorithms)
    builder.with_remote_ports(candidate.ike_port, candidate.natt_port)
    builder.with_dpd(timing.dpd_delay(profile.inactivity_s))
    builder.with_retransmission(timing.retransmission(profile.inactivity_s))
    # the user may have several devices, so none may claim to be the only one (RFC 7296, 2.4)
    return builder.with_options(
        keepalive_interval=float(profile.keepalive_s), initial_contact=False, announce_vendor=True
    )
