"""Operating on runs after and beside their walk: fork, retry, one step alone, searching, many at once.

Nothing here changes a run that exists: what goes on from one is a new run (`reflux.core.origin`), planned by
`reflux.core.fork` and begun by the launcher like any other.
"""
