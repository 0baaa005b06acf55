"""REFLUX: durable flows whose steps are gRPC services behind Envoy."""
