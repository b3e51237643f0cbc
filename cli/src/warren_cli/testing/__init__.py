"""For tests: of the operator's verbs (`verbs`), and of our IKEv2 endpoint with a charon (`ike_bed`, `vici_control`)."""
