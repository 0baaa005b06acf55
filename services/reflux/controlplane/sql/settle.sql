-- PENDING revisions that every live proxy has taken are APPLIED. What was written down for that is then no longer
-- needed, so proxies that come and go under new names leave nothing behind.
WITH settled AS (
    UPDATE route_revisions v SET state = 'APPLIED'
     WHERE v.state = 'PENDING'
       AND NOT EXISTS (SELECT FROM proxies p
                        WHERE p.seen_at > clock_timestamp() - make_interval(secs => %(alive)s)
                          AND NOT EXISTS (SELECT FROM acknowledgements a
                                           WHERE a.node = v.node AND a.proxy = p.name AND a.revision >= v.revision))
    RETURNING v.node, v.revision
), forgotten AS (
    DELETE FROM acknowledgements a USING settled
     WHERE a.node = settled.node AND a.revision <= settled.revision
)
SELECT node, revision FROM settled
