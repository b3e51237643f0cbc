"""Operator's verbs: they speak to the API server over HTTP and to nothing else; no service and no bus is imported here."""
