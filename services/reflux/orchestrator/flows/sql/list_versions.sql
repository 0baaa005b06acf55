-- A page of a flow's versions, newest first, without their documents.
SELECT flow_id, version, digest, author, created_at
  FROM flow_versions
 WHERE flow_id = %(flow_id)s AND version < %(before_version)s
 ORDER BY version DESC
 LIMIT %(limit)s
