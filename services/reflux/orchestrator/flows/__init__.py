"""Flows and their frozen versions: what people save, and what runs are started from.

`store` keeps them, `servicer` speaks `reflux.api.flow.v1.FlowService`, `cache` has them compiled for those
who start runs, `plan` says what a flow would do in the mesh as it is now.

A flow has a name and a current version. Whatever changes its spec, layout or description makes a new version;
its name belongs to the flow and is changed in place. A run keeps the version it began with, also when the
flow is deleted meanwhile.
"""
