"""The NATS auth callout: authenticate each connection and grant its permissions.

The callout reads the tables `peer`, `revoked_key`, `join_token` and `operator_token` of the registry's schema by its own
queries (`sql/admission.sql`) and never writes or migrates them. `adapters/postgres.py` states which columns it relies on;
`tests/test_callout_rows.py` checks them against the registry's migrations.
"""
