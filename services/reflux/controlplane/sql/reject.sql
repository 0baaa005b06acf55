-- A proxy refused a snapshot with these PENDING revisions: those it has not taken before are to blame. When
-- there are several nobody knows which, so each says what it was refused together with. Proxies are led back
-- to the newest revision that nobody refused; those that had taken a refused one must take that one anew.
WITH blamed AS (
    SELECT v.node, v.revision
      FROM route_revisions v
      JOIN unnest(%(nodes)s::text[], %(revisions)s::integer[]) AS held (node, revision) USING (node, revision)
      LEFT JOIN acknowledgements a ON a.node = v.node AND a.proxy = %(proxy)s
     WHERE v.state = 'PENDING' AND COALESCE(a.revision, 0) < v.revision
), refused AS (
    UPDATE route_revisions v
       SET state = 'REJECTED',
           refusal = %(words)s || COALESCE(
               ' (refused together with '
               || (SELECT string_agg(format('revision %%s of %%s', b.revision, b.node), ', ' ORDER BY b.node)
                     FROM blamed b WHERE b.node <> v.node)
               || ': any of them may be the cause)', '')
      FROM blamed WHERE (v.node, v.revision) = (blamed.node, blamed.revision)
    RETURNING v.node, v.revision
), led_back AS (
    UPDATE routes r
       SET serving = COALESCE((SELECT max(v.revision) FROM route_revisions v
                                WHERE v.node = r.node AND v.state <> 'REJECTED' AND v.revision < refused.revision), 0)
      FROM refused
     WHERE r.node = refused.node AND r.serving = refused.revision
), forgotten AS (
    DELETE FROM acknowledgements a USING refused
     WHERE a.node = refused.node AND a.revision >= refused.revision
)
SELECT node, revision FROM refused
