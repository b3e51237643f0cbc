"""What the containers of `deploy/compose` run: the same keys, configuration, roles and services as `warren up`, each in a
folder that only its reader is shown.

`keys` writes before NATS and PostgreSQL start, `database` once PostgreSQL answers, `run` becomes one service. All three may be
repeated: what is there is kept.
"""
