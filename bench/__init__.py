"""Benchmarks: what REFLUX does per second, each figure beside the bare limit measured in the same minutes.

`stack` runs a real stack with a node (`echo`) for it; `bare` and `client` drive the two things compared;
`load` asks and counts, `calls` does so at the mesh alone, and `processes` are versions that can be killed;
`w1` to `w7` and those with a name say what is asked; `report` compares and prints. Nothing here is a test: a
figure never fails anything. What must never be, such as a lost call, does (`report.BrokenPromise`).
"""

import os

# Processes are started while connections are open, and executed at once, so gRPC need not halt its threads
# around each of them. gRPC reads this when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
