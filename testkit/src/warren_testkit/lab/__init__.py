"""Gateways of the lab for tests: our IKEv2 endpoint with a charon (`ike_bed`, `vici_control`), the agent's driver (`gateways`)."""
