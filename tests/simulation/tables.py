"""The orchestrator's tables, and what each statement of `orchestrator/store/sql` does to them.

One method per file of SQL, of the same name, with the same parameters and the same rows. A statement happens
at one instant, wholly or not at all: the real ones lock the shard rows, so every order that PostgreSQL allows
is one of these. `tests/simulation/test_the_store_is_like_postgresql.py` runs the same scenarios over both.

Columns of a batch come as lists, because packing them (`store.arrays`) is left out of a simulated world.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors

from tests.simulation.limit_tables import Claim, LimitTables, Verdict
from tests.simulation.rows import Fact, Member, Run, Shard
from tests.simulation.schedule_tables import ScheduleTables
from tests.simulation.signal_tables import SignalTables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = tuple[Any, ...]
Parameters = "Mapping[str, Any]"

_AHEAD: Final = timedelta(seconds=5)
_DAYS: Final = timedelta(days=7)
_FOR_THE_ABSENT: Final = timedelta(minutes=1)
"""How long a word for a run that is not there waits for it to begin."""
_RESTS: Final = ("PARKED", "QUEUED")
"""States of runs that without a time are in nobody's memory."""


@dataclass(slots=True)
class Tables:
    """`now` is the database's clock; `writer` names whoever asks, for the auditor alone."""

    now: Callable[[], datetime]
    writer: str = ""
    shards: dict[int, Shard] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    journal: dict[str, dict[int, Fact]] = field(default_factory=dict)
    inbox: dict[int, tuple[int, str, str, bytes, datetime, int | None]] = field(default_factory=dict)
    """Id → shard, run, kind, payload, created_at, signal."""
    start_keys: dict[tuple[str, str], tuple[bytes, str, datetime]] = field(default_factory=dict)
    """Scope and key → digest, run, expiry."""
    limits: LimitTables = field(init=False)
    signals: SignalTables = field(init=False)
    schedules: ScheduleTables = field(init=False)
    _words: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.limits = LimitTables(self.tell, self._come_sooner)
        self.signals = SignalTables(self)
        self.schedules = ScheduleTables(self)

    def tell(self, shard: int, run_id: str, kind: str, payload: bytes, signal: int | None = None) -> None:
        """Leaves a word in an inbox."""
        self.inbox[next(self._words)] = (shard, run_id, kind, payload, self.now(), signal)

    def execute(self, name: str, parameters: Any) -> list[Row]:
        """The rows of a statement.

        Raises:
            psycopg.Error: it breaks a rule of the tables; then it has changed nothing.
        """
        for part in (self, self.signals, self.schedules):
            if (statement := getattr(part, name, None)) is not None:
                rows: list[Row] = statement(parameters)
                return rows
        raise NotImplementedError(name)

    # members.py

    def create_shards(self, p: Any) -> list[Row]:
        if not self.shards:
            self.shards = {number: Shard() for number in range(p["shards"])}
        return []

    def count_shards(self, _: Any) -> list[Row]:
        return [(len(self.shards),)]

    def join(self, p: Any) -> list[Row]:
        now = self.now()
        for member in self.members.values():
            if member.state == "alive" and member.address == p["address"]:
                member.state = "dead"
        self.members[p["member"]] = Member(p["address"], p["release"], now, now + p["lease"])
        return [(now,)]

    def heartbeat(self, p: Any) -> list[Row]:
        member = self.members.get(p["member"])
        if member is None or member.state != "alive":
            return []
        now = self.now()
        member.lease_until = now + p["lease"]
        return [(now,)]

    def leave(self, p: Any) -> list[Row]:
        member = self.members.get(p["member"])
        if member is not None and member.state == "alive":
            member.state = "left"
        for shard in self.shards.values():
            if shard.owner == p["member"]:
                shard.owner, shard.token = None, shard.token + 1
        return []

    def declare_dead(self, _: Any) -> list[Row]:
        now = self.now()
        found = [
            (one, member)
            for one, member in self.members.items()
            if member.state == "alive" and member.lease_until < now
        ]
        for _one, member in found:
            member.state = "dead"
        return [(one, member.address) for one, member in found]

    def take_shards(self, p: Any) -> list[Row]:
        me = self.members.get(p["member"])
        if me is None or me.state != "alive":
            return []
        taken: list[Row] = []
        for number, shard in self.shards.items():
            if len(taken) == p["limit"]:
                break
            if shard.release > p["release"]:
                continue
            if shard.owner is None or self.members[shard.owner].state != "alive":
                orphaned = shard.owner is not None
                shard.owner, shard.token, shard.release = p["member"], shard.token + 1, p["release"]
                taken.append((number, shard.token, orphaned))
        return taken

    def release_shards(self, p: Any) -> list[Row]:
        given = [
            one for one, shard in self.shards.items() if shard.owner == p["member"] and one in p["shards"]
        ]
        for one in given:
            shard = self.shards[one]
            shard.owner, shard.token = None, shard.token + 1
        return [(one,) for one in given]

    def survey(self, p: Any) -> list[Row]:
        alive = {one: member for one, member in self.members.items() if member.state == "alive"}
        peers = {one: member for one, member in alive.items() if member.release == p["release"]}
        me, rank = self.members.get(p["member"]), 0
        if me is not None:
            place = (me.joined_at, p["member"])
            rank = sum((member.joined_at, one) < place for one, member in peers.items())
        newer = any(member.release > p["release"] for member in alive.values())
        free = sum(
            shard.owner not in alive and shard.release <= p["release"] for shard in self.shards.values()
        )
        mine = [(one, shard.token) for one, shard in self.shards.items() if shard.owner == p["member"]]
        ids, tokens = [one for one, _ in mine], [token for _, token in mine]
        overdue = any(member.lease_until < self.now() for member in alive.values())
        return [(len(peers), rank, newer, overdue, len(self.shards), free, ids, tokens)]

    # journal.py, start.py

    def held(self, shards: Sequence[int], tokens: Sequence[int]) -> set[int]:
        """Those of the shards that are held under these tokens."""
        return {
            shard
            for shard, token in zip(shards, tokens, strict=True)
            if shard in self.shards and self.shards[shard].token == token
        }

    def _held(self, p: Any) -> dict[int, tuple[int, int]]:
        """Place in the batch → shard and token, of the leases that hold."""
        return {
            place: (shard, token)
            for place, (shard, token) in enumerate(zip(p["shards"], p["tokens"], strict=True), 1)
            if shard in self.shards and self.shards[shard].token == token
        }

    def write_events(self, p: Any) -> list[Row]:
        now, held = self.now(), self._held(p)
        events = [
            (run, Fact(seq, now, payload, held[place][1], self.writer))
            for place, run, seq, payload in zip(
                p["event_leases"], p["event_runs"], p["event_seqs"], p["event_payloads"], strict=True
            )
            if place in held
        ]
        if len({(run, fact.seq) for run, fact in events}) < len(events):
            raise errors.UniqueViolation("journal_pkey: the same event twice")
        for run, fact in events:
            if fact.seq in self.journal.get(run, ()):
                raise errors.UniqueViolation(f"journal_pkey: {run} {fact.seq}")
        for run, fact in events:
            self.journal.setdefault(run, {})[fact.seq] = fact
        handed = self._move(p, held)
        for place, run_id, word in zip(p["word_leases"], p["word_runs"], p["word_ids"], strict=True):
            row = self.inbox.get(word)
            if place in held and row is not None and row[0] == held[place][0] and row[1] == run_id:
                del self.inbox[word]
                if run_id in self.runs:
                    self.runs[run_id].folded.append((row[2], now))
        columns = ("tell_leases", "tell_runs", "tell_kinds", "tell_payloads")
        for place, *told in zip(*(p[column] for column in columns), strict=True):
            if place in held:
                self.tell(held[place][0], *told)
        columns = ("wait_leases", "wait_runs", "wait_steps", "wait_names", "wait_keys")
        for place, run_id, step, name, key in zip(*(p[column] for column in columns), strict=True):
            if place in held:
                self.signals.changed(held[place][0], run_id, step, name, key)
        return [(place, now, handed) for place in held]

    def _move(self, p: Any, held: dict[int, tuple[int, int]]) -> list[str] | None:
        """The rows of runs, and the slots of those that end; who got one, None when none was limited."""
        ended = []
        columns = ("run_leases", "run_ids", "run_states", "run_wakes", "run_finishes", "run_progresses")
        errs = ("error_codes", "error_reasons", "error_messages", "error_steps", "error_fingerprints")
        for place, run_id, state, wake, finish, progressed, *error in zip(
            *(p[column] for column in (*columns, *errs)), strict=True
        ):
            run = self.runs.get(run_id)
            if place not in held or run is None or run.shard != held[place][0] or run.finished_at is not None:
                continue
            if not p["oldest_run"] <= run_id <= p["newest_run"]:
                continue
            run.state, run.wake_at, run.finished_at, run.error = str(state), wake, finish, tuple(error)
            run.moved_at = self.now()
            if progressed:
                run.recoveries = 0
            if run.limited and finish is not None:
                ended.append(run_id)
        return self.limits.release(ended, self.now()) if ended else None

    def _come_sooner(self, run_id: str, start_at: datetime) -> None:
        run = self.runs[run_id]
        if run.state in ("QUEUED", "PAUSED") and run.wake_at is not None:
            run.wake_at = min(run.wake_at, start_at)

    def start_runs(self, p: Any) -> list[Row]:
        now, held, fresh = self.now(), self._held(p), []
        columns = ("leases", "run_ids", "scopes", "keys", "digests", "flow_ids", "flow_names")
        more = ("flow_versions", "actors", "created", "payloads", "priorities")
        found_by = ("search_keys", "triggers", "origins", "operations", "tests")
        requests = zip(*(p[column] for column in (*columns, *more, *found_by)), strict=True)
        for request in sorted(requests, key=lambda request: (request[2], request[3] or "")):
            known = self.start_keys.get((request[2], request[3]))
            if request[0] in held and (known is None or known[2] <= now):
                fresh.append(request)
        begun = [request[1] for request in fresh]
        if any(run_id in self.runs for run_id in begun):
            raise errors.UniqueViolation("runs_pkey")
        verdicts = self.limits.admit(_claims(p, fresh, held), now) if p["claim_runs"] else {}
        tails = dict(zip(p["claim_runs"], p["queued_tails"], strict=True))
        for request in fresh:
            place, run_id, scope, key, digest, flow_id, name, version, *rest = request
            actor, created, payload, priority, *made_by = rest
            verdict, wake_at, has_slot = verdicts.get(run_id, _BEGINS)
            if verdict not in ("begin", "queue"):
                begun.remove(run_id)
                self.start_keys.pop((scope, key), None) if key is not None else None
                continue
            shard, token = held[place]
            if key is not None:
                self.start_keys[scope, key] = (digest, run_id, now + _DAYS)
            queues = verdict == "queue"
            state = "QUEUED" if queues else "RUNNING"
            row = self.runs[run_id] = Run(shard, flow_id, name, version, state, actor, created)
            row.wake_at = wake_at if queues else now + _AHEAD
            row.priority, row.made_by, row.limited = priority, tuple(made_by), has_slot
            first = payload + tails[run_id] if queues else payload
            self.journal.setdefault(run_id, {})[1] = Fact(1, now, first, token, self.writer)
        limited = sorted(verdicts)
        judged = [verdicts[run_id].verdict for run_id in limited]
        return [(list(held), begun, now, limited, judged, [verdicts[run_id].wake_at for run_id in limited])]

    def keep_outcomes(self, p: Any) -> list[Row]:
        now, there = self.now(), self.journal.setdefault(p["run_id"], {})
        for seq, payload in zip(p["seqs"], p["payloads"], strict=True):
            there.setdefault(seq, Fact(seq, now, payload, 0, ""))
        return []

    def drop_outcomes(self, p: Any) -> list[Row]:
        if p["run_id"] not in self.runs:
            self.journal.pop(p["run_id"], None)
        return []

    def find_queued(self, p: Any) -> list[Row]:
        run, slot = self.runs.get(p["run_id"]), self.limits.slots.get(p["run_id"])
        if run is None or run.finished_at is not None:
            return []
        if slot is None:
            return [(True, run.wake_at, self.now())]
        return [(slot.held, slot.start_at, self.now())]

    def find_place(self, p: Any) -> list[Row]:
        run = self.runs.get(p["run_id"])
        if run is None or run.state not in ("QUEUED", "PAUSED"):
            return []
        return self.limits.find_place(p["run_id"], run, p["counted"])

    def find_start_keys(self, p: Any) -> list[Row]:
        wanted = [(*handle,) for handle in zip(p["scopes"], p["keys"], strict=True)]
        found = [(handle, self.start_keys.get(handle)) for handle in dict.fromkeys(wanted)]
        return [(*handle, known[1], known[0]) for handle, known in found if known is not None]

    # runs.py, wakeups.py, inbox.py

    def adopt_runs(self, p: Any) -> list[Row]:
        shard = self.shards[p["shard"]]
        if shard.token != p["token"]:
            return []
        told = {
            run_id
            for shard, run_id, kind, *_ in self.inbox.values()
            if shard == p["shard"] and not self.kept_for_later(run_id, kind)
        }
        page = sorted(
            run_id
            for run_id, run in self.runs.items()
            if run.shard == p["shard"]
            and run.finished_at is None
            and run_id > p["after"]
            and (run_id in told or self._due_soon(run))
        )[: p["limit"]]
        for run_id in page:
            run = self.runs[run_id]
            if p["died"]:
                run.recoveries = max(run.recoveries, min(run.recoveries + 1, p["most"] - 1))
            elif self._belongs(run):
                run.recoveries = min(run.recoveries, p["most"] - 1)
            run.adopted_at = self.now()
        runs = [(run_id, self.runs[run_id]) for run_id in page]
        return [
            (
                run_id,
                run.recoveries,
                run.flow_id,
                run.priority,
                self._belongs(run),
            )
            for run_id, run in runs
        ]

    def _belongs(self, run: Run) -> bool:
        return run.state not in _RESTS and self._due_soon(run)

    def _due_soon(self, run: Run) -> bool:
        if run.wake_at is None:
            return run.state not in _RESTS
        return run.wake_at <= self.now() + _AHEAD

    def try_run(self, p: Any) -> list[Row]:
        run = self.runs.get(p["run_id"])
        if run is None or run.shard != p["shard"] or self.shards[p["shard"]].token != p["token"]:
            return []
        if run.finished_at is not None or run.recoveries != p["most"] - 1:
            return []
        run.recoveries = p["most"]
        return [(run.recoveries,)]

    def find_words(self, p: Any) -> list[Row]:
        if self.shards[p["shard"]].token != p["token"]:
            return []
        place = (p["shard"], p["run_id"])
        return [(word, *row[2:]) for word, row in sorted(self.inbox.items()) if row[:2] == place]

    def find_due(self, p: Any) -> list[Row]:
        held = self.held(p["shards"], p["tokens"])
        rows: list[Row] = []
        latest, loaded, taken = self.now() + p["ahead"], set(p["loaded"]), set(p["taken"])
        come = [
            (run_id, run)
            for run_id, run in self.runs.items()
            if run.shard in held
            and run.wake_at is not None
            and run.wake_at <= latest
            and run_id not in loaded
        ]
        come = sorted(come, key=lambda one: one[1].wake_at or latest)[: p["window"]]
        come.sort(key=lambda one: (-one[1].priority, one[1].wake_at))
        turns: defaultdict[str, count[int]] = defaultdict(count)
        timers = [(next(turns[run.flow_id]), run_id, run) for run_id, run in come]
        timers.sort(key=lambda one: (one[0], -one[2].priority, one[2].wake_at))
        rows += [(run_id, run.shard, run.wake_at, *[None] * 4) for _, run_id, run in timers[: p["limit"]]]
        words: list[Row] = []
        for word, (shard, run_id, kind, payload, at, signal) in list(self.inbox.items()):
            if shard not in held:
                continue
            run = self.runs.get(run_id)
            deaf = (signal is not None or kind == "pause") and self.quarantined(run_id)
            if at < self.now() - _FOR_THE_ABSENT if run is None else run.finished_at is not None or deaf:
                del self.inbox[word]
                self.signals.unheard(run_id, signal)
            elif run is not None and word not in taken and not self.kept_for_later(run_id, kind):
                words.append((run_id, shard, at, word, kind, payload, signal))
        return rows + words[: p["limit"]]

    def kept_for_later(self, run_id: str, kind: str) -> bool:
        """Whether a word waits until somebody lets its run, which is in quarantine, go on."""
        return self.quarantined(run_id) and kind not in ("cancel", "terminate", "resume")

    def quarantined(self, run_id: str) -> bool:
        """Whether a run was put aside because it may kill whoever reads it."""
        run = self.runs.get(run_id)
        return run is not None and run.state == "PARKED" and run.error[1] == "QUARANTINED"

    def put_word(self, p: Any) -> list[Row]:
        run = self.runs.get(p["run_id"])
        if run is None:
            return []
        word = None
        if run.finished_at is None:
            word = next(self._words)
            self.inbox[word] = (run.shard, p["run_id"], p["kind"], p["payload"], self.now(), None)
        return [(run.state, run.shard, word)]

    def get_run(self, p: Any) -> list[Row]:
        run = self.runs.get(p["run_id"])
        if run is None:
            return []
        head = (p["run_id"], run.shard, run.flow_id, run.flow_name, run.flow_version, run.state, run.actor)
        times = (run.created_at, run.finished_at, run.wake_at, run.recoveries)
        return [(*head, *times, *run.error, *run.made_by)]

    def read_events(self, p: Any) -> list[Row]:
        facts = self.journal.get(p["run_id"], {})
        page = sorted(seq for seq in facts if seq > p["after"])[: p["limit"]]
        return [(seq, facts[seq].recorded_at, facts[seq].payload) for seq in page]

    def read_journals(self, p: Any) -> list[Row]:
        return [
            (run_id, seq, fact.recorded_at, fact.payload)
            for run_id in sorted(set(p["run_ids"]))
            for seq, fact in sorted(self.journal.get(run_id, {}).items())
            if seq <= p["limit"]
        ]

    def last_seqs(self, p: Any) -> list[Row]:
        return [
            (run_id, max(self.journal[run_id]))
            for run_id in dict.fromkeys(p["run_ids"])
            if run_id in self.journal
        ]

    def find_finished(self, p: Any) -> list[Row]:
        found = [run_id for run_id in dict.fromkeys(p["runs"]) if run_id in self.runs]
        return [(run_id,) for run_id in found if self.runs[run_id].finished_at is not None]

    def find_parked(self, p: Any) -> list[Row]:
        found = [run_id for run_id in dict.fromkeys(p["runs"]) if run_id in self.runs]
        return [(run_id,) for run_id in found if self.runs[run_id].state == "PARKED"]

    # words

    def is_waiting(self, p: Any) -> list[Row]:
        row = self.inbox.get(p["word"])
        return [(row is not None and row[:2] == (p["shard"], p["run_id"]),)]

    def give_back(self, p: Any) -> list[Row]:
        row = self.inbox.get(p["word"])
        held = self.shards[p["shard"]].token == p["token"]
        if held and row is not None and row[:2] == (p["shard"], p["run_id"]):
            del self.inbox[p["word"]]
            self.signals.gave_back(p["run_id"], row[5])
            if p["run_id"] in self.runs:
                self.runs[p["run_id"]].folded.append((row[2], self.now()))
        return []


def _claims(p: Any, fresh: Sequence[Any], held: dict[int, tuple[int, int]]) -> list[Claim]:
    """What the new ones of limited flows ask for, in the order in which they came."""
    new = {request[1]: request for request in fresh}
    columns = ("claim_runs", "slot_keys", "slot_limits", "slot_overflows")
    more = ("rate_keys", "rate_limits", "rate_periods", "rate_overflows", "claim_versions")
    claims = []
    for run_id, *slot_and_rate in zip(*(p[column] for column in (*columns, *more)), strict=True):
        if (request := new.get(run_id)) is None:
            continue
        slot_key, slots, overflow, rate_key, rate, per, *more_of_rate = slot_and_rate
        head = (run_id, str(request[5]), held[request[0]][0], request[11])
        period = timedelta(microseconds=per)
        claims.append(Claim(*head, slot_key, slots, overflow, rate_key, rate, period, *more_of_rate))
    return claims


_BEGINS: Final = Verdict("begin", None, False)
"""Of a run whose flow has no limit."""
