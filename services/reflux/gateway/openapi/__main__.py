"""Prints the document: `python -m reflux.gateway.openapi > gateway/openapi.yaml`."""

import sys

from reflux.gateway.openapi import as_yaml

sys.stdout.buffer.write(as_yaml())
