"""The `reflux` command: the embedded stack, and the single entry of every service.

Only this package may import several services: it composes them in one process where that is wanted.
"""
