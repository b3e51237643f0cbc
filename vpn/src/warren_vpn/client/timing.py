"""How the profile's inactivity becomes the timers of IKE. Pure; seconds."""

from warren_ikev2.configuration import Retransmission

TRIES = 4
_SHARE = 1 / 3


def dpd_delay(inactivity_s: float) -> float:
    """Silence before the server is asked whether it is alive: a third of the inactivity."""
    return inactivity_s * _SHARE


def retransmission(inactivity_s: float) -> Retransmission:
    """The retransmissions of one request, which fill the rest: a silent server counts as dead after `inactivity_s` in all."""
    return Retransmission.lasting(inactivity_s * (1 - _SHARE), TRIES)
