"""Envoy's configuration as plain dicts (proto3 JSON of its v3 API), one module per xDS type.

Pure builders: a piece of the graph in, a resource out. Why each value is what it is stands beside it,
measured on the Envoy we ship; `envoy/README.md` at the root of the repository tells the whole story. `xds`
alone turns dicts into messages, by the descriptors in `xds.binpb`.
"""
