"""The contract between a flow and the node versions it is routed to: what it gives them, and what it reads.

A step that leaves its version to the node's route promises an input, and relies on an output, without knowing
who will answer. As long as every version with traffic takes the one and gives the other, the route may send
the call to any of them. A version that does not is a **misfit** of that step. Nothing of this is executed:
`uses` says what a flow gives and reads, `schemas` how a JSON Schema is asked, `inputs` and `outputs` compare,
`misfits` puts the findings together.

Two kinds of findings. A **sure** one fails every such call: a constant that the schema refuses, a member that
it requires and the step does not give, a member of the output that it rules out, a type that has nothing in
common with the former one. One that is not sure fails some calls: where only the run knows the value, what
the new schema no longer takes is compared with what the schemas that serve now take, place by place. That is
a comparison of what schemas say, not of what they mean: `not`, `if`, `contains` and `dependent…` are the same
or they are not, and what they say about members that a step writes one by one is not looked at. So it may
find too little. It finds nothing that does not stand in the schemas.

Findings are relative. What is wrong already with the versions that serve is not held against a new one, or
nobody could ever go back: see `misfits`.
"""

from reflux.core.contract.inputs import refused
from reflux.core.contract.misfits import Misfit, MisfitCode, Version, misfits
from reflux.core.contract.outputs import missing
from reflux.core.contract.uses import NodeUse, uses_of

__all__ = ["Misfit", "MisfitCode", "NodeUse", "Version", "misfits", "missing", "refused", "uses_of"]
