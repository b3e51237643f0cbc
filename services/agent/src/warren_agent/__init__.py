"""The agent: one process a peer, which makes the tunnels of its host those that the fleet's policies want.

It stands above contracts, intent and bus, and next to the services, which it meets on the bus alone. `domain` decides (pure),
`drivers` do, `adapters` reach the bus, `agent` joins them, `bootstrap` is the only place that knows which is which. It stays
small: nothing is imported that an idle gateway does not need.
"""

__version__ = "0.1.0"
