-- Where one revision stands, and which live proxies have not acknowledged it.
SELECT v.state, v.refusal,
       ARRAY(SELECT p.name FROM proxies p
              WHERE p.seen_at > clock_timestamp() - make_interval(secs => %(alive)s)
                AND NOT EXISTS (SELECT FROM acknowledgements a
                                 WHERE a.node = v.node AND a.proxy = p.name AND a.revision >= v.revision)
              ORDER BY p.name)
  FROM route_revisions v
 WHERE v.node = %(node)s AND v.revision = %(revision)s
