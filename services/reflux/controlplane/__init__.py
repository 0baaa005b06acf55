"""The control plane: owns routes, and tells every Envoy how to serve them.

It watches the catalog of the registry (`EndpointService.WatchCatalog`) and its own table of routes, turns
both into Envoy's configuration and pushes that over ADS. Envoys and callers of `RoutingService` call it; it
calls the registry, and an orchestrator when a version is to take calls of flows. When it is down every proxy
goes on with the configuration it has.

    catalog + routes → graph → envoy/{cluster,endpoint,listener,route} → snapshot → subscription → server

Everything left of `subscription` is a pure function of its input; `subscription` is the protocol without I/O;
only `server`, `store`, `catalog` and the servicer touch the world.
"""
