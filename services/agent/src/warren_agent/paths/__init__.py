"""More than one way to a peer: names and several addresses, redundant gateways, and which of them is used."""
