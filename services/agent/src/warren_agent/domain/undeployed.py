"""Tunnels that are desired and in no driver, as they are reported. Pure."""

from collections.abc import Collection, Mapping

from warren_contracts.names import PeerId
from warren_contracts.status import MAX_DETAIL, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import AppliedTunnel
from warren_intent.derivation import SkipCode, Skipped
from warren_intent.expand import Expansion


def undeployed(
    me: PeerId, desired: Expansion, held: Collection[str], failed: Mapping[str, AppliedTunnel], daemon_lost: str
) -> dict[str, TunnelStatus]:
    """What policies ask for and no driver holds, by name: a daemon is unreachable, it refused, or no tunnel could be derived.

    `failed` are the steps that failed, `daemon_lost` is why the others were not tried.
    """
    found: dict[str, TunnelStatus] = {}
    for skipped in desired.skipped:
        if skipped.code is not SkipCode.OVERRIDDEN:
            found[skipped.name] = TunnelStatus(
                name=skipped.name, policy=skipped.policy, peer=_other(me, skipped), state=TunnelState.ERROR,
                reason=ReasonCode.OTHER, detail=skipped.message[:MAX_DETAIL], skipped=skipped.code.value,
            )  # fmt: skip
    for config in desired.tunnels:
        if config.name in held:
            found.pop(config.name, None)
            continue
        step = failed.get(config.name)
        reason, detail = (step.reason, step.detail) if step else (ReasonCode.DAEMON_UNREACHABLE, daemon_lost)
        found[config.name] = TunnelStatus(
            name=config.name, policy=config.policy, peer=config.peer, state=TunnelState.ERROR, initiator=config.initiator,
            reason=reason, detail=detail[:MAX_DETAIL],
        )  # fmt: skip
    return found


def _other(me: PeerId, skipped: Skipped) -> PeerId | None:
    return next((peer for peer in skipped.peers if peer != me), None)
