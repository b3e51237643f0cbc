"""What the userspace driver refuses: options that warren_ikev2 does not have are never ignored silently."""

from collections.abc import Iterable

from warren_agent.errors import ConfigRefusedError
from warren_contracts.addresses import common_port
from warren_contracts.auth import RawKeyAuth
from warren_contracts.ipsec import DEFAULT_CHILD, Childless, ChildSettings, Mode
from warren_contracts.peers import DriverCapabilities
from warren_contracts.selectors import ANY_PORTS
from warren_contracts.tunnel import Tunnel
from warren_intent.proposal_filter import COMMON_REPLAY_WINDOW, refused_child_options, refused_ike_options

KIND = "userspace"
_CIPHERS = (
    "aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305", "aes128", "aes192", "aes256",
    "sha256", "sha384", "sha512",
)  # fmt: skip
_GROUPS = (
    "x25519", "ecp256", "ecp384", "ecp521", "ecp256bp", "ecp384bp", "ecp512bp",
    "modp2048", "modp3072", "modp4096", "mlkem768", "mlkem1024",
)  # fmt: skip
_PRFS = ("prfsha256", "prfsha384", "prfsha512")
FEATURES = ("mobike", "fragmentation", "selectors", "esn", "additional-key-exchanges", "vips", "pools")


def capabilities(version: str) -> DriverCapabilities:
    """What the directory holds of this driver."""
    return DriverCapabilities(
        kind=KIND, version=version, ike=(*_CIPHERS, *_GROUPS, *_PRFS), esp=(*_CIPHERS, *_GROUPS), features=FEATURES
    )


def check(config: Tunnel) -> None:
    """Check one configuration.

    Raises:
        ConfigRefusedError: names the field, in a policy's terms, and the reason.
    """
    problems = [*_check_ike(config), *(it for child in config.link.children for it in _check_child(child))]
    if problems:
        raise ConfigRefusedError(f"{config.name}: " + "; ".join(problems))


def _check_ike(config: Tunnel) -> Iterable[str]:
    link, ike = config.link, config.link.ike
    for side, end in (("local_auth", link.local_auth), ("remote_auth", link.remote_auth)):
        if not isinstance(end, RawKeyAuth):
            yield f"{side}: the userspace driver authenticates by raw keys only, not by {end.kind}"
    for field, endpoints in (
        ("local_endpoints", config.local_endpoints),
        ("remote_endpoints", config.remote_endpoints),
    ):
        if any(isinstance(endpoint.host, str) for endpoint in endpoints):
            yield f"{field}: the userspace driver needs addresses, not host names"
        try:
            common_port(endpoints)
        except ValueError as error:
            yield f"{field}: {error}"
    xfrm = link.xfrm
    refused = (
        ("options.ike.childless", ike.childless in (Childless.PREFER, Childless.FORCE), "allow or never"),
        ("options.ike.dscp", ike.dscp != 0, "0"),
        ("options.ike.rand_time", ike.rand_time is not None, "none: a tenth at most"),
        ("vips", len({vip.version for vip in ike.vips}) < len(ike.vips), "one address of each IP version"),
        ("ppk_id", ike.ppk_id is not None, "none"),
        ("xfrm", xfrm != type(xfrm)(), "no interface ids and no marks"),
    )
    for field, wrong, allowed in refused:
        if wrong:
            yield f"{field}: the userspace driver supports {allowed}"
    for option, message in refused_ike_options(ike):
        yield f"options.ike.{option}: {message}"


def _check_child(child: ChildSettings) -> Iterable[str]:
    prefix = "options.child" if child.name == DEFAULT_CHILD else f"children.{child.name}"
    refused = (
        ("mode", child.mode is not Mode.TUNNEL, "tunnel"),
        ("replay_window", child.replay_window > COMMON_REPLAY_WINDOW, f"at most {COMMON_REPLAY_WINDOW}"),
        ("rand_time", child.rand_time is not None, "none: a tenth at most"),
        ("rand_bytes", child.rand_bytes is not None, "none: a tenth at most"),
        ("rand_packets", child.rand_packets is not None, "none: a tenth at most"),
        ("tfc_padding", child.tfc_padding != 0, "0"),
        ("ipcomp", child.ipcomp, "false"),
        ("inactivity", child.inactivity != 0, "0"),
        ("copy_df", not child.copy_df, "true"),
        ("copy_ecn", not child.copy_ecn, "true"),
        ("copy_dscp", child.copy_dscp != "out", "out"),
        ("hw_offload", child.hw_offload not in ("no", "auto"), "no or auto"),
    )
    for option, wrong, allowed in refused:
        if wrong:
            yield f"{prefix}.{option}: the userspace driver supports {allowed}"
    for side, selectors in (("local_ts", child.local_ts), ("remote_ts", child.remote_ts)):
        dynamic = [selector for selector in selectors if selector.addresses is None]
        if dynamic and (len(selectors) > 1 or dynamic[0].protocol or dynamic[0].ports != ANY_PORTS):
            yield f"{side}: the userspace driver supports dynamic only by itself, for all protocols"
    for option, message in refused_child_options(child):
        yield f"{prefix}.{option}: {message}"
