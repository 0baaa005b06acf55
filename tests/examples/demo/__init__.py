"""The demo: a whole stack from nothing, its stories, and what happened in them, live.

    python -m tests.examples.demo [DATA_DIR]

Everything is real: Envoy, PostgreSQL, Valkey, the orchestrator, the nodes. Processes of our own play the
outside world: a ledger that counts what arrives, and language model providers that can be killed. Each
module but `screen` and `load`, which they share, tells a story; a promise in it that does not hold ends the
demo with an error.
"""
