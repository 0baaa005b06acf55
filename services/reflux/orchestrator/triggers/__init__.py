"""What starts runs: webhooks, schedules, and people with a form.

A trigger is declared in a flow's document (`core.flow.triggers` says what it means) and is in force with the
flow's current version. `store` keeps the rows that make a path belong to one flow, and `schedules` those that
say when something fires next, both written in the transaction that makes the version (`flows.store`).

`deliveries` makes runs of what senders send:

    path → trigger           `paths`, remembered for a second, as `flows.cache` remembers current versions
    is it who it says?       `signatures`, over the body's bytes as they came
    request → input          `requests` and `bodies`, strictly, and the trigger's own template
    input → run              the launcher, once per delivery id

`scheduler` makes runs of time, one per firing: the owner of a schedule's shard finds it due, starts the run
in that shard, and moves the schedule on. `byhand` makes them of what people send.

**Once.** A delivery id is a start-once handle within its trigger, kept for 7 days with the digest of the
raw body. The digest is of what the sender sent, not of the input made of it: a repetition is honest
whatever the flow's template, schema or version has become meanwhile. A firing's handle is the moment that its
rule names.

**Nothing secret is kept.** Keys come from the environment of this process and go nowhere. Headers that hold
or prove a secret are not part of `request`.
"""
