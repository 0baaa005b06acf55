-- Tries of calls that did not answer OK, as the proxies' access logs tell: what an attempt met on its way.
-- Losing it costs sight, never a run, so it is UNLOGGED: no write-ahead log, and empty after a crash.

CREATE UNLOGGED TABLE tries (
    call       text        NOT NULL,  -- run id / step / attempt; of attempts that share a call its batch id
    leaf       text        NOT NULL,  -- node@version
    endpoint   text        NOT NULL,  -- host:port; empty when no connection was made
    started_at timestamptz NOT NULL,  -- by the proxy's clock
    took_us    bigint      NOT NULL,  -- microseconds
    code       text        NOT NULL,  -- gRPC code that it answered; empty when it did not
    flags      text        NOT NULL,  -- Envoy's response flags, such as UT
    kept_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX tries_call ON tries USING hash (call);
CREATE INDEX tries_kept_at ON tries USING brin (kept_at);
