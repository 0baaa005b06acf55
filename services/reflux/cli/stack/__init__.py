"""The embedded stack: a supervisor and the parts it keeps alive.

Owns the data folder (`.reflux/`): `postgres/`, `valkey/`, `envoy/`, `logs/`, `run/`. Starts PostgreSQL,
Valkey and Envoy from wheels and REFLUX's own services as children; calls none of them but to see whether
they are ready. Called by the command line only.
"""
