"""A mesh to experiment on: real Envoy, real ADS server, nodes that do as they are told."""
