"""Two IKEv2 engines on a simulated network (`pair`, `mobike`), their data plane (`dataplane`), and certificates for a day (`keys`)."""
