"""The orchestrator: owns flows, triggers, runs, their journal and timers, and walks runs to their end.

It calls the node versions through the mesh's Envoy, and PostgreSQL; it tells and hears of changes through
Redis/Valkey, which it can do without. It is called by clients of the API through the edge's Envoy (flows,
runs, triggers), by the gateway (live events, webhooks) and by node versions (claims of effects).

`store` keeps everything in the schema `orchestrator`; deciding is `reflux.core`'s.
"""
