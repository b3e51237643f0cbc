"""Rate limits of one peer: a compromised agent must not fill EVENT, or the store, for all others."""

BURST = 2_000.0  # events at once: all tunnels of the largest gateway change twice
RATE = 50.0  # events a second after that; a regular gateway causes far fewer
EVENT_WEIGHT = 8_192  # bytes of the tunnel in an event: each multiple counts as one more event

NEW_BURST = 20_000.0  # tunnels seen for the first time, at once: twice MAX_TUNNELS_OF_PEER
# A second after that: each is a row to be written or removed, also while PostgreSQL is unavailable.
NEW_RATE = 100.0
