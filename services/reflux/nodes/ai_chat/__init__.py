"""`ai.chat`: one question to a language model, which has the same form whoever answers.

model       what is asked and answered         access     key, URL and default model of a provider
chat        one call, from input to output     draft      an answer while it comes in
completions the wire of OpenAI and its like    messages   the wire of Anthropic
faults      what can go wrong, as gRPC codes   prices     what an answer costs
versions    `openai`, `anthropic`, `local`: three versions of one node, so that a route can fall back

What all versions understand stands at the top of the input; what only some do (a model's name above all)
stands under `providers`, by version, and each version reads its own part. So a call that falls back means
the same to whoever answers it, and nothing in it is ignored.

The SDKs are imported and the client is built in a thread, beginning when the node starts: importing both
takes seconds, which neither the start of the node nor the versions beside it should wait for. A version that
is not configured imports nothing. The SDKs' own retries are off: the mesh tries again. No client uses the
proxies of the environment, as `http.request` does not: who needs a way out names a gateway as the base URL.
"""
