"""The registry: owns nodes, node versions and their live endpoints.

Node processes register under a lease and renew it (`EndpointService`); the control plane and orchestrators
watch the whole catalog; people read it (`RegistryService`). It calls nobody.

A version is for ever: the first registration fixes its description, and another description under the same
version is refused. An endpoint lives as long as its lease, by the database's clock.
"""
