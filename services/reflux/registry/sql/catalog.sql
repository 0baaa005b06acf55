-- Everything, by node and version; the revision is read in the same snapshot.
SELECT c.revision, v.node, v.version, v.description, v.effect, v.attempt_timeout, v.max_concurrency, v.batchable,
       v.verifiable, v.cancelable, v.credentials, v.digest, v.created_at, e.id, e.address
  FROM catalog c
  LEFT JOIN node_versions v ON true
  LEFT JOIN endpoints e ON (e.node, e.version) = (v.node, v.version)
 ORDER BY v.node, v.version, e.address
