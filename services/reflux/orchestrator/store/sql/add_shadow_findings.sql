-- Adds what was found; a version has so many places at most, and further ones are not kept.
INSERT INTO shadow_findings AS kept (node, version, kind, pointer, count, examples)
SELECT new.node, new.version, new.kind, new.pointer, new.count, new.examples
FROM unnest(
    %(nodes)s::text[], %(versions)s::text[], %(kinds)s::text[], %(pointers)s::text[],
    %(counts)s::bigint[], %(examples)s::jsonb[]
) AS new (node, version, kind, pointer, count, examples)
WHERE new.pointer = 'total'
    OR EXISTS (SELECT FROM shadow_findings AS there WHERE (there.node, there.version, there.kind, there.pointer)
        = (new.node, new.version, new.kind, new.pointer))
    OR (SELECT count(*) FROM shadow_findings AS there
        WHERE (there.node, there.version) = (new.node, new.version)) < %(most)s
ORDER BY new.node, new.version, new.kind, new.pointer
ON CONFLICT (node, version, kind, pointer) DO UPDATE SET
    count = kept.count + excluded.count,
    seen_at = excluded.seen_at,
    examples = (
        SELECT coalesce(jsonb_agg(one ORDER BY place), '[]')
        FROM (
            SELECT one, place FROM jsonb_array_elements(excluded.examples || kept.examples)
            WITH ORDINALITY AS all_of_them (one, place) ORDER BY place LIMIT 3
        ) AS newest
    )
