-- PENDING revisions that every live proxy has taken are APPLIED.
UPDATE route_revisions v SET state = 'APPLIED'
 WHERE v.state = 'PENDING'
   AND NOT EXISTS (SELECT FROM proxies p
                    WHERE p.seen_at > clock_timestamp() - make_interval(secs => %(alive)s)
                      AND NOT EXISTS (SELECT FROM acknowledgements a
                                       WHERE a.node = v.node AND a.proxy = p.name AND a.revision >= v.revision))
RETURNING v.node, v.revision
