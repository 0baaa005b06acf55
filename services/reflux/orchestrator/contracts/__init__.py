"""Whether versions of nodes fit what flows use: `reflux.api.flow.v1.ContractService`.

The comparison itself is `reflux.core.contract`. `uses` finds the versions of flows that count and what they
use, `catalog` the schemas and who serves now, `desk` brings both together, `servicer` speaks. `watch` says it
in the log when a version is registered that does not fit. The control plane asks before it lets a version
take calls, because only here the flows are known, and services do not look into each other's tables (decision
54).
"""
