"""Benchmarks: what REFLUX does per second, each figure beside the bare limit measured in the same minutes.

`stack` runs a real stack with a node (`echo`) for it; `bare` and `client` drive the two things compared;
`load` asks and counts; `w1` and `idle` say what is asked; `report` prints. Nothing here is a test: a figure
never fails anything.
"""
