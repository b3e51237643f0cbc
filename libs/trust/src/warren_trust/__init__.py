"""Trust: keys, NATS JWTs and signed documents. PyNaCl and the contracts, no event loop and no NATS client."""
