"""Pure rules of the auth callout: no event loop, socket or clock."""
