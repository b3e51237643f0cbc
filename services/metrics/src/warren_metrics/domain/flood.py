"""Bounds on what one peer can cause in a time: a taken-over agent must not fill EVENT, or the store, for everybody."""

BURST = 2_000.0  # events at once: all tunnels of the largest gateway change twice
RATE = 50.0  # events a second after that; an honest gateway causes far fewer
EVENT_WEIGHT = 8_192  # bytes in memory of the tunnel that an event tells of: each more of them counts as one event more

NEW_BURST = 20_000.0  # tunnels seen for the first time, at once: twice MAX_TUNNELS_OF_PEER
# A second after that: each leaves a row to be written or removed, also while PostgreSQL is unavailable.
NEW_RATE = 100.0
