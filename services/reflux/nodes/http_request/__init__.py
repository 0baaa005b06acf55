"""`http.request`: one HTTP exchange, which reaches public addresses and those the operator allows.

model      what is asked and answered        guard     which addresses may be reached
exchange   one request, its redirects        faults    what can go wrong, as gRPC codes
v1, v2     the two versions: v2 keeps connections and honours Retry-After
"""
