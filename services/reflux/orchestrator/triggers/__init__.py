"""What starts runs without anybody asking: webhooks.

A trigger is declared in a flow's document (`core.flow.webhook` says what it means) and is in force with the
flow's current version. `store` keeps the rows that make a path belong to one flow, written in the transaction
that makes the version (`flows.store`). `deliveries` makes runs of what senders send:

    path → trigger           `paths`, remembered for a second, as `flows.cache` remembers current versions
    is it who it says?       `signatures`, over the body's bytes as they came
    request → input          `requests` and `bodies`, strictly, and the trigger's own template
    input → run              the launcher, once per delivery id

**Once.** A delivery id is a start-once handle within its trigger, kept for 7 days with the digest of the
raw body. The digest is of what the sender sent, not of the input made of it: a repetition is honest
whatever the flow's template, schema or version has become meanwhile.

**Nothing secret is kept.** Keys come from the environment of this process and go nowhere. Headers that hold
or prove a secret are not part of `request`.
"""
