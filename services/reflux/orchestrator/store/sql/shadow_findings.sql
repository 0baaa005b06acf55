-- What is known of a node's shadows.
SELECT version, kind, pointer, count, examples, seen_at FROM shadow_findings
WHERE node = %(node)s ORDER BY version, count DESC, pointer, kind
