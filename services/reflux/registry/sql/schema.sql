-- The schemas of one version.
SELECT input_schema, output_schema FROM node_versions WHERE node = %(node)s AND version = %(version)s
