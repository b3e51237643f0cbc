"""For tests: of the operator's verbs (`verbs`), of our IKEv2 endpoint with a charon (`ike_bed`, `vici_control`), and of the
agent's driver on gateways of the lab (`gateways`)."""
