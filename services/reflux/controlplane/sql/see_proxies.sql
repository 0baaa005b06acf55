-- These proxies, and no others, have a stream to this control plane.
WITH gone AS (
    DELETE FROM proxies
     WHERE (control_plane = %(control_plane)s AND NOT name = ANY(%(names)s::text[]))
        OR seen_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO proxies (name, control_plane, seen_at)
SELECT name, %(control_plane)s, clock_timestamp() FROM unnest(%(names)s::text[]) AS name ORDER BY name
ON CONFLICT (name) DO UPDATE SET control_plane = EXCLUDED.control_plane, seen_at = EXCLUDED.seen_at
