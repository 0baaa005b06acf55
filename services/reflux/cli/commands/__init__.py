"""The client commands, a module each (a larger one for each part of a large one). They ask the API through
the edge, as any other client does, and own nothing but how its answers are shown.
"""
