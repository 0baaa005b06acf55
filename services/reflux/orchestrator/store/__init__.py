"""Everything the orchestrator keeps, in PostgreSQL's schema `orchestrator`; opaque payloads, no decisions.

| module    | keeps                                                                  |
|-----------|------------------------------------------------------------------------|
| `members` | who is alive, and which shards it may advance under which token        |
| `lease`   | the loop that stays alive, takes over from the dead and shares fairly  |
| `journal` | the events of runs, written in groups by the holder of the shard       |
| `start`   | new runs, once per start-once handle                                   |
| `runs`    | reading: recovery, lists, one run, its events                          |
| `inbox`   | words to runs that somebody else may own                               |
| `partitions` | the tables by time that runs lie in: making, dropping, forgetting   |
| `wakeups` | what is due: timers and words, found from the tables alone             |
| `wake`    | the accelerator: who should look now, through Redis/Valkey             |

Rules:
- Every statement is a transaction of its own and carries what it needs to be right alone. There is no BEGIN:
  a process paused between two statements would hold locks, and so block its own takeover.
- Whoever writes for a run presents `ShardLease(shard, token)`; the statement locks that shard row FOR SHARE
  and ignores everything under another token. That lock, not any clock, is what makes zombies harmless.
- Locks are taken in the order shards (by id), then start keys (by scope and key), then rows of runs.
- `now()` is the time of the statement. `clock_timestamp()` stands only where a condition is judged anew after
  waiting for a lock.
"""
