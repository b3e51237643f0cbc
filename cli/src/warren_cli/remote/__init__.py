"""Operator's verbs: they speak to the gateway over HTTP and to nothing else; no service and no bus is imported here."""
