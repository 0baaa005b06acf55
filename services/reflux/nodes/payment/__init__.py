"""`payment.charge` by Stripe, PayPal and Square, and `payment.refund`: money that moves once.

model      what is asked and answered: money as integers in minor units
access     keys and URLs of the providers, from the environment
wire       the HTTP client underneath; what a failed exchange says of the effect
stripe, paypal, square   the wire formats: a charge, finding it by its key, giving it back
versions   the node versions

What a version may say after its claim, and nothing else:

- The connection was refused, or the provider answered before processing (429, 401, 403): surely nothing
  happened and the provider is to blame, so another one may be asked at once.
- It declined (402, 422, any other 4xx): surely nothing happened, and another provider is not asked.
- No answer, a broken one, or 5xx: nobody knows.

`verify` looks for the charge by the key that was written on it. What is found and paid is FOUND. VOIDED is
said only where the provider keeps the key as used up: of a charge that was found. That none is found says
nothing.
"""
