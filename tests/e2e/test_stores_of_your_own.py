"""`--postgres-dsn` and `--redis-url`: the stack runs on stores that somebody else keeps."""

import psycopg
import redis

from reflux.cli.stack.postgres import PostgresServer
from tests.support.stack import running_stack

FLOW = {"name": "own", "spec": {"steps": [{"id": "done", "return": {"answer": 42}}]}}


def test_a_stack_runs_on_stores_that_it_was_given(
    tmp_path, postgres_server: PostgresServer, empty_dsn: str, valkey_url: str
):
    """Neither store is embedded; the database is migrated and holds the run, the other one is listened to."""
    given = {"REFLUX_POSTGRES_DSN": empty_dsn, "REFLUX_REDIS_URL": valkey_url}
    with running_stack(tmp_path / "data", environment=given) as stack:
        assert set(stack.state["parts"]) == {"platform", "envoy", "nodes", "orchestrator"}
        stack.rest.post("/api/flows", FLOW)
        run = stack.rest.post("/api/flows/own/execute?wait=10s", {})
        assert run["output"] == {"answer": 42}
        with psycopg.connect(empty_dsn) as connection:
            found = connection.execute("SELECT count(*) FROM orchestrator.runs WHERE id = %s", (run["id"],))
            assert found.fetchone() == (1,)
        with redis.Redis.from_url(valkey_url) as client:
            assert client.pubsub_channels() or client.pubsub_numpat()
    with psycopg.connect(postgres_server.admin_dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,), "the stack has stopped a store of others"
    assert not (tmp_path / "data" / "postgres").exists()
