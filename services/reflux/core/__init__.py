"""The pure heart: values in, values out.

Nothing here does I/O, reads a clock, draws randomness, logs, or knows asyncio, grpc and protobuf. The same
classes therefore run in production, in tests that make their own time, and in a replay of an old journal.
"""
