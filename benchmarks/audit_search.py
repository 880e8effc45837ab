"""How fast sealed records are searched, how big the index is, and what other indexes would do.

    python -m benchmarks.audit_search --records 300000 --peers
    python -m benchmarks.audit_search --records 10000000 --keep DIR

Starts a PostgreSQL of its own with Custos's settings, and fills it with questions and answers in English and Chinese
(benchmarks/audit_texts.py), really sealed, spread over the days from yesterday on. Then asks questions of many kinds
through `audit.search.engine.find`, whole: parsing, recording the search, index, opening and verifying, snippets. With
--peers the same hashed words are indexed as tsvector under GIN and by Tantivy, and all three are asked for a count up
to 10,000 and the newest 50. With --keep a second run goes on with what is there. Goal, on 2 cores: p95 ≤ 200 ms over 10
million records, and what is found is what a scan finds.
"""

import argparse
import json
import multiprocessing
import os
import random
import secrets
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.audit_append import _prepare
from benchmarks.audit_texts import Writer
from console.supervisor.postgres import PostgresServer

DAYS = 9  # The application's own function makes partitions from yesterday to a week ahead.
SAMPLE = 20_000  # Records of which word frequencies are counted.
BLOCK = 5_000
PEOPLE, GROUPS = 200, 8
CHECKED = 20_000  # Records that are scanned to check what is found.
STATUSES = ["completed"] * 95 + ["stopped"] * 2 + ["failed", "refused", "timed_out"]
PARTS = ("audit_record", "audit_chunk", "audit_completion", "audit_search_entry")


class Day(NamedTuple):
    day: date
    records: int
    seed: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--records", type=int, default=300_000)
    arguments.add_argument("--queries", type=int, default=30, help="of each kind")
    arguments.add_argument("--processes", type=int, default=os.cpu_count(), help="that fill")
    arguments.add_argument("--peers", action="store_true", help="build and ask the other indexes, too")
    arguments.add_argument("--keep", type=Path, help="folder of the database, used again by the next run")
    arguments.add_argument(
        "--ask-only", action="store_true", help="ask about the days that are there; fill none"
    )
    options = arguments.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="custos-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # The database runs as another account when we are root.
    password_file = folder / "password"
    if not password_file.exists():
        password_file.write_text(secrets.token_hex(16))
    server = PostgresServer(folder / "postgres", password_file.read_text())
    server.start()
    try:
        _run(folder, server.url, password_file.read_text(), options)
    finally:
        server.stop()
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, owner_url: str, password: str, options: argparse.Namespace) -> None:
    state = folder / "state.json"
    if state.exists():
        told = json.loads(state.read_text())
        tenant_id, first = UUID(told["tenant"]), date.fromisoformat(told["first"])
        _environment(folder, owner_url, password)
        from django.db import connections

        from console.management.commands.prepare import prepare_schema

        prepare_schema(connections["owner"], verbosity=0)
    else:
        tenant_id = _prepare(folder, owner_url, password)
        first = datetime.now(UTC).date() - timedelta(1)
        state.write_text(json.dumps({"tenant": str(tenant_id), "first": str(first)}))
    days = [Day(first + timedelta(number), options.records // DAYS, 1000 + number) for number in range(DAYS)]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    if options.ask_only:
        filled = {day.day for day in days} - {day.day for day in _missing(owner_url, days)}
        days = [day for day in days if day.day in filled]
    else:
        _fill(tenant_id, owner_url, days, options.processes)
    _report_sizes(owner_url, sum(day.records for day in days))
    frequencies = _frequencies()
    if options.peers:
        _compare(tenant_id, owner_url, days, frequencies, options.queries)
    _ask_all(tenant_id, days, frequencies, options.queries)
    _check(tenant_id, days, frequencies)
    _writing(tenant_id, owner_url, days)


def _environment(folder: Path, owner_url: str, password: str) -> None:
    os.environ.update(
        CUSTOS_VAR_DIR=str(folder),
        DATABASE_URL=owner_url,
        CUSTOS_APP_DATABASE_URL=owner_url.replace(
            owner_url.partition("@")[0], f"postgresql://custos_app:{password}"
        ),
        DJANGO_SETTINGS_MODULE="console.settings",
    )
    import django

    django.setup()


# Filling


def _fill(tenant_id: UUID, owner_url: str, days: Sequence[Day], processes: int) -> None:
    missing = _missing(owner_url, days)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        for day in missing:
            owner.execute("SELECT audit_ensure_partition(%s)", [day.day])
            for part in PARTS[:3]:
                owner.execute(f"TRUNCATE {part}_{day.day:%Y%m%d}")
    if not missing:
        return
    _make_keys(tenant_id, [day.day for day in missing])
    started, done = time.perf_counter(), 0
    context = multiprocessing.get_context("spawn")
    print(f"{'records':>12}{'seconds':>9}{'records/s':>11}{'index MB':>10}{'all MB':>9}", flush=True)
    with context.Pool(processes) as pool:
        for records in pool.imap_unordered(_fill_day, [(tenant_id, owner_url, day) for day in missing], 1):
            done += records
            seconds = time.perf_counter() - started
            sizes = _sizes(owner_url)
            index = sizes["audit_search_entry"]
            print(
                f"{done:>12,}{seconds:>9.0f}{done / seconds:>11.0f}{index / 1e6:>10.0f}{sum(sizes.values()) / 1e6:>9.0f}",
                flush=True,
            )
    with psycopg.connect(owner_url, autocommit=True) as owner:
        for part in PARTS:
            owner.execute(f"VACUUM ANALYZE {part}")


def _missing(owner_url: str, days: Sequence[Day]) -> list[Day]:
    """Days that are not filled, or not to their end."""
    with psycopg.connect(owner_url) as owner:
        return [
            day
            for day in days
            if not owner.execute(
                "SELECT to_regclass(%s)", [f"audit_search_entry_{day.day:%Y%m%d}"]
            ).fetchone()[0]
        ]


def _make_keys(tenant_id: UUID, days: Sequence[date]) -> None:
    """Of each day, before several processes would."""
    from audit.record import Keeping
    from tenants import envelope
    from tenants.scope import tenant_scope

    for day in days:
        with tenant_scope(tenant_id):
            envelope.seal(tenant_id=tenant_id, purpose=Keeping.REQUESTS, day=day, plaintext=b"", aad={})


def _fill_day(task: tuple[UUID, str, Day]) -> int:
    """One day's records, index and all; the index is built at the end, as a restored one would be."""
    import django

    django.setup()
    tenant_id, owner_url, day = task
    suffix = f"{day.day:%Y%m%d}"
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("SET session_replication_role = replica")  # No triggers: rows are as they would be.
        owner.execute("SET maintenance_work_mem = '512MB'")
        owner.execute("SET synchronous_commit = off")
        owner.execute(f"DROP TABLE IF EXISTS filling_{suffix}")
        owner.execute(
            f"CREATE TABLE filling_{suffix} (LIKE audit_search_entry INCLUDING ALL EXCLUDING INDEXES)"
        )
        for rows in _blocks(tenant_id, day):
            with owner.cursor() as cursor:
                for part, table in zip(PARTS, (*PARTS[:3], f"filling_{suffix}"), strict=True):
                    columns, found = rows[part]
                    with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                        for row in found:
                            copy.write_row(row)
        owner.execute(f"ALTER TABLE filling_{suffix} RENAME TO audit_search_entry_{suffix}")
        owner.execute(
            f"ALTER TABLE audit_search_entry ATTACH PARTITION audit_search_entry_{suffix} "
            f"FOR VALUES FROM ('{day.day}') TO ('{day.day + timedelta(1)}')"
        )
    return day.records


def _blocks(tenant_id: UUID, day: Day) -> Iterator[dict[str, tuple[list[str], list[tuple[Any, ...]]]]]:
    from audit.record import Keeping
    from audit.search import index
    from audit.search.hashing import Hasher
    from tenants.keyring import data_keys
    from tenants.scope import tenant_scope

    with tenant_scope(tenant_id):
        hasher = Hasher(tenant_id, Keeping.REQUESTS, day.day)
        key = data_keys.data_key(tenant_id, Keeping.REQUESTS, day.day, create=True)
        store = _Store(next(_records(tenant_id, day)), key)
    made = _records(tenant_id, day)
    while block := list(islice(made, BLOCK)):
        entries = []
        stored: dict[str, list[tuple[Any, ...]]] = {part: [] for part in PARTS[:3]}
        for of in block:
            content, rows = store.sealed(of)
            entries.append(index.entry(content, hasher))
            for part, row in rows.items():
                stored[part].append(row)
        yield {
            **{part: (store.columns[part], stored[part]) for part in stored},
            "audit_search_entry": (index.COLUMNS, entries),
        }


class Made(NamedTuple):
    """What is known of a record before it is sealed."""

    tenant_id: UUID
    request_id: UUID
    day: date
    asked: str
    answered: str
    person: int
    status: str
    channel: str
    model: str
    tokens: int


def _records(tenant_id: UUID, day: Day) -> Iterator[Made]:
    """The records of a day, the same in each run."""
    writer, chance = Writer(day.seed), random.Random(day.seed)
    midnight = int(datetime.combine(day.day, datetime.min.time(), UTC).timestamp() * 1000)
    for number in range(day.records):
        milliseconds = midnight + number * 86_400_000 // day.records
        request_id = UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | chance.getrandbits(62))
        asked, answered = writer.record()
        yield Made(
            tenant_id,
            request_id,
            day.day,
            asked,
            answered,
            person=int(PEOPLE ** chance.random()),
            status=chance.choice(STATUSES),
            channel="chat" if chance.random() < 0.7 else "api",
            model=chance.choice(("qwen3-8b", "qwen3-8b", "llama-3.1-8b-instruct", "smollm2-135m-instruct")),
            tokens=len(answered) // 4,
        )


def _person(number: int) -> tuple[UUID, str]:
    return UUID(
        int=(number << 64) | (7 << 76) | (2 << 62)
    ), f"person{number}.{'abcdefgh'[number % 8]}@bank.example"


def _group(person: int) -> str:
    return str(UUID(int=(person % GROUPS + 1) << 90))


class _Store:
    """Makes a day's rows, as `audit.record` does record by record, without its checks and transactions."""

    def __init__(self, first: Made, key: bytes) -> None:
        from audit import leaf, record
        from audit.models import AuditChunk, AuditCompletion, AuditRecord
        from audit.record import Handle
        from tenants import envelope

        self._key = key
        shared = {"tenant_id": first.tenant_id, "day": first.day}
        rows = {
            "audit_record": AuditRecord(
                **shared,
                kind=record.GENERATION,
                session_ref="",
                route="default",
                route_reason="",
                client_address="192.0.2.7",
                schema=leaf.SCHEMA,
            ),
            "audit_chunk": AuditChunk(**shared, seq=1),
            "audit_completion": AuditCompletion(
                **shared, chunk_count=1, ciphertext_digest=bytes(32), leaf_digest=bytes(32)
            ),
        }
        self.columns = {
            part: [field.attname for field in row._meta.local_concrete_fields] for part, row in rows.items()
        }
        self._values = {
            part: {column: getattr(row, column) for column in self.columns[part]}
            for part, row in rows.items()
        }
        # What content is bound to differs between records by their ids alone.
        handle = Handle(first.tenant_id, first.request_id)
        self._bound = {}
        for field, sequence in (("input", 0), ("parameters", 0), ("output", 1)):
            bound = envelope.associated_data(
                handle.tenant_id, handle.keeping, record.associated(handle, field, sequence)
            )
            start, end = bound.split(str(handle.request_id).encode())
            self._bound[field] = (start, end)
        self._check(handle)

    def sealed(self, of: Made) -> tuple[Any, dict[str, tuple[Any, ...]]]:
        """(What the index enters, the rows of the audit)."""
        from audit.record import Keeping
        from audit.search.content import Content
        from audit.search.query import Columns, Text
        from tenants.ids import time_of
        from tenants.keyring import ciphers

        user_id, label = _person(of.person)
        text = of.answered.encode()
        messages = json.dumps(
            [{"role": "user", "content": of.asked}], ensure_ascii=False, separators=(",", ":")
        )
        key = AESGCM(ciphers.derived(self._key, f"record {of.request_id}"))
        name = str(of.request_id).encode()
        intent = self._values["audit_record"] | {
            "id": of.request_id,
            "channel": of.channel,
            "user_id": user_id,
            "user_label": label,
            "model": of.model,
            "model_version": f"sha256:{of.model}",
            "created": time_of(of.request_id),
            "input": self._seal(key, name, "input", messages.encode()),
            "parameters": self._seal(key, name, "parameters", b"{}"),
        }
        chunk = self._values["audit_chunk"] | {
            "request_id": of.request_id,
            "size": len(text),
            "sealed": self._seal(key, name, "output", text),
        }
        ended = self._values["audit_completion"] | {
            "request_id": of.request_id,
            "status": of.status,
            "completion_tokens": of.tokens,
            "output_bytes": len(text),
        }
        columns = Columns(
            created=intent["created"],
            user_label=label,
            model=of.model,
            model_version=intent["model_version"],
            channel=of.channel,
            kind=intent["kind"],
            status=of.status,
            tokens=of.tokens,
            group_ids=[_group(of.person)],
            rules=(),
            risk="",
        )
        texts = [Text("input", of.asked), Text("output", of.answered)]
        content = Content(SimpleNamespace(**intent), Keeping.REQUESTS, True, columns, texts)  # type: ignore[arg-type]
        rows = {"audit_record": intent, "audit_chunk": chunk, "audit_completion": ended}
        return content, {part: tuple(row.values()) for part, row in rows.items()}

    def _seal(self, key: AESGCM, name: bytes, field: str, plaintext: bytes) -> bytes:
        start, end = self._bound[field]
        nonce = os.urandom(12)
        return b"\x02" + nonce + key.encrypt(nonce, plaintext, start + name + end)

    def _check(self, handle: Any) -> None:
        """What is sealed here opens as what the product sealed."""
        from audit import record
        from tenants.keyring import ciphers

        key = AESGCM(ciphers.derived(self._key, f"record {handle.request_id}"))
        sealed = self._seal(key, str(handle.request_id).encode(), "output", b"said")
        if record.open_output(handle, seq=1, sealed=sealed) != "said":
            raise AssertionError


# Sizes


def _sizes(owner_url: str) -> dict[str, int]:
    with psycopg.connect(owner_url) as owner:
        return {
            part: owner.execute(
                "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits "
                "WHERE inhparent = %s::regclass",
                [part],
            ).fetchone()[0]
            for part in PARTS
        }


def _report_sizes(owner_url: str, records: int) -> None:
    sizes = _sizes(owner_url)
    with psycopg.connect(owner_url) as owner:
        found = owner.execute(
            "SELECT am.amname, c.relkind, sum(pg_relation_size(c.oid))::bigint FROM pg_class c "
            "LEFT JOIN pg_am am ON am.oid = c.relam WHERE c.relname LIKE 'audit_search_entry_2%' "
            "OR c.relname LIKE 'filling_2%' GROUP BY 1, 2"
        ).fetchall()
        words = owner.execute(
            "SELECT avg((SELECT count(DISTINCT word) FROM unnest(words) AS word)) "
            "FROM (SELECT words FROM audit_search_entry LIMIT 20000) AS few"
        ).fetchone()[0]
    print(f"\n{words:.0f} tokens a record; bytes a record:")
    for kind, _, size in found:
        print(f"  index, {kind:<8}{size / records:>8.0f}")
    print(f"  index, all     {sizes['audit_search_entry'] / records:>8.0f}")
    print(
        f"  records        {(sum(sizes.values()) - sizes['audit_search_entry']) / records:>8.0f}\n",
        flush=True,
    )


# Words to ask for


class Frequencies(NamedTuple):
    """Words by how many records they stand in."""

    rare: list[str]  # Below 1 in 5,000.
    middling: list[str]  # 1 in 1,000 to 1 in 100.
    common: list[str]  # More than 1 in 5.
    chinese: list[str]  # Words of two or three characters.
    characters: list[str]
    phrases: list[str]
    chinese_phrases: list[str]
    prefixes: list[str]


def _frequencies() -> Frequencies:
    from audit.search import tokens

    writer, counts = Writer(1000), Counter[str]()
    some: list[str] = []
    for _ in range(SAMPLE):
        asked, answered = writer.record()
        some.append(answered)
        counts.update(
            token
            for token in tokens.words(tokens.normalise(asked)) | tokens.words(tokens.normalise(answered))
        )
    latin = {
        word: count for word, count in counts.items() if word.isascii() and word.isalpha() and len(word) > 3
    }
    chosen = random.Random(7)

    def between(least: float, most: float) -> list[str]:
        return sorted(word for word, count in latin.items() if least <= count / SAMPLE < most)

    english = [text for text in some if text.isascii()]
    dense = [text for text in some if not text.isascii()]
    lists = _chinese_lists()
    return Frequencies(
        rare=between(0, 1 / 5000),
        middling=between(1 / 1000, 1 / 100),
        common=between(1 / 5, 1),
        chinese=[word for word in lists["noun"] + lists["topic"] if 2 <= len(word) <= 3],
        characters=list("王李钱金税账款账冻瑞"),
        phrases=[_words(chosen.choice(english), chosen, 3) for _ in range(500)],
        chinese_phrases=[_characters(chosen.choice(dense), chosen, 5) for _ in range(500)],
        prefixes=sorted({word[:5] for word in between(1 / 1000, 1 / 20) if len(word) > 6}),
    )


def _chinese_lists() -> dict[str, list[str]]:
    return Writer(0).lists["zh"]


def _words(text: str, chance: random.Random, length: int) -> str:
    words = text.replace(".", "").replace(",", "").replace(":", "").split()
    start = chance.randrange(max(1, len(words) - length))
    return " ".join(words[start : start + length])


def _characters(text: str, chance: random.Random, length: int) -> str:
    sentence = max(text.replace("，", "。").replace("、", "。").split("。"), key=len)
    start = chance.randrange(max(1, len(sentence) - length))
    return sentence[start : start + length]


# Asking the whole engine


def _ask_all(tenant_id: UUID, days: Sequence[Day], words: Frequencies, queries: int) -> None:
    from audit.search import index
    from audit.search.engine import Sort, find

    actor = _actor(tenant_id)
    print(f"{'find(): milliseconds':<34}{'p50':>8}{'p95':>8}{'most':>8}{'hits':>10}", flush=True)
    every: list[float] = []
    for name, make in _kinds(days, words).items():
        chance = random.Random(name)
        times, hits = [], []
        for _ in range(queries):
            search = make(chance)
            started = time.perf_counter()
            found = find(actor, search, reason="benchmark")
            times.append((time.perf_counter() - started) * 1000)
            hits.append(found.total)
        every += times
        index.index_waiting()  # The searches' own records, as the worker does every two seconds.
        print(_row(name, times, f"{statistics.median(hits):,.0f}"), flush=True)
    print(_row("all of these", every, ""), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    for name, text, sort in (
        ("20 pages deep, middling word", words.middling[3], Sort.NEWEST),
        ("20 pages deep, common word", words.common[3], Sort.NEWEST),
        ("20 pages deep, common, by tokens", words.common[3], Sort.TOKENS),
        ("20 pages deep, phrase", f'"{words.phrases[5]}"', Sort.NEWEST),
    ):
        times, cursor = [], ""
        from audit.search.engine import Search

        for _ in range(20):
            started = time.perf_counter()
            page = find(actor, Search(text, sort=sort), reason="benchmark", cursor=cursor)
            times.append((time.perf_counter() - started) * 1000)
            cursor = page.next_cursor
            if not cursor:
                break
        print(_row(name, times, f"{page.total:,}"), flush=True)


def _kinds(days: Sequence[Day], words: Frequencies) -> dict[str, Callable[[random.Random], Any]]:
    from audit.search.engine import Search, Sort

    def day(chance: random.Random) -> dict[str, datetime]:
        since = datetime.combine(chance.choice(days).day, datetime.min.time(), UTC)
        return {"since": since, "until": since + timedelta(1)}

    def hour(chance: random.Random) -> dict[str, datetime]:
        since = day(chance)["since"] + timedelta(hours=chance.randrange(24))
        return {"since": since, "until": since + timedelta(hours=1)}

    def label(chance: random.Random) -> str:
        return _person(int(PEOPLE ** chance.random()))[1]

    return {
        "rare word": lambda c: Search(c.choice(words.rare)),
        "middling word": lambda c: Search(c.choice(words.middling)),
        "common word": lambda c: Search(c.choice(words.common)),
        "two words, middling and common": lambda c: Search(
            f"{c.choice(words.middling)} {c.choice(words.common)}"
        ),
        "two middling words": lambda c: Search(" ".join(c.sample(words.middling, 2))),
        "three common words": lambda c: Search(" ".join(c.sample(words.common, 3))),
        "rare and common word": lambda c: Search(f"{c.choice(words.rare)} {c.choice(words.common)}"),
        "either of two words": lambda c: Search(f"{c.choice(words.rare)} OR {c.choice(words.middling)}"),
        "word and not another": lambda c: Search(f"{c.choice(words.middling)} -{c.choice(words.common)}"),
        "phrase of three words": lambda c: Search(f'"{c.choice(words.phrases)}"'),
        "beginning of a word": lambda c: Search(f"{c.choice(words.prefixes)}*"),
        "longer beginning of a word": lambda c: Search(f"{c.choice(words.middling)[:6]}*"),
        "Chinese word": lambda c: Search(c.choice(words.chinese)),
        "Chinese phrase": lambda c: Search(c.choice(words.chinese_phrases)),
        "one Chinese character": lambda c: Search(c.choice(words.characters)),
        "person": lambda c: Search(user=label(c)),
        "common word and person": lambda c: Search(c.choice(words.common), user=label(c)),
        "common word and failed": lambda c: Search(c.choice(words.common), status="failed"),
        "middling word, person, group": lambda c: Search(
            c.choice(words.middling), user=label(c), channel="api"
        ),
        "common word on a day": lambda c: Search(c.choice(words.common), **day(c)),
        "middling word in an hour": lambda c: Search(c.choice(words.middling), **hour(c)),
        "common word, oldest first": lambda c: Search(c.choice(words.common), sort=Sort.OLDEST),
        "common word, most tokens": lambda c: Search(c.choice(words.common), sort=Sort.TOKENS),
        "rare word, most tokens": lambda c: Search(c.choice(words.rare), sort=Sort.TOKENS),
        "no word": lambda c: Search(),
        "word that is nowhere": lambda c: Search(f"q{c.getrandbits(60):x}"),
    }


def _row(name: str, times: Sequence[float], hits: str) -> str:
    p95 = statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
    return f"{name:<34}{statistics.median(times):>8.1f}{p95:>8.1f}{max(times):>8.1f}{hits:>10}"


def _actor(tenant_id: UUID) -> Any:
    from tenants.access import Actor
    from tenants.roles import AUDIT_READ

    return Actor(
        tenant_id=tenant_id,
        tenant_slug="bench",
        tenant_name="Bench",
        label="bench",
        role="reviewer",
        permissions=frozenset({AUDIT_READ}),
    )


def _check(tenant_id: UUID, days: Sequence[Day], words: Frequencies) -> None:
    """What is found among some records, and what a scan of their texts finds."""
    from audit.search.engine import Search, iterate
    from audit.search.query import Text, answers, parse

    some = [made for made, _ in zip(_records(tenant_id, days[0]), range(CHECKED), strict=False)]
    since, until = some[0].request_id, some[-1].request_id
    from tenants.ids import time_of

    span = {"since": time_of(since), "until": time_of(until)}
    chance = random.Random(3)
    asked = [
        *chance.sample(words.rare, 5),
        *chance.sample(words.middling, 5),
        *chance.sample(words.chinese, 5),
        *(f'"{phrase}"' for phrase in chance.sample(words.phrases, 10)),
        *chance.sample(words.chinese_phrases, 10),
        *(f"{prefix}*" for prefix in chance.sample(words.prefixes, 5)),
        *(" ".join(chance.sample(words.common, 2)) + f" -{chance.choice(words.common)}" for _ in range(5)),
    ]
    texts = [(each.request_id, [Text("", each.asked), Text("", each.answered)]) for each in some[:-1]]
    wrong = 0
    for text in asked:
        root = parse(text).root
        expected = {request_id for request_id, said in texts if answers(root, None, said)}  # type: ignore[arg-type]
        found = set(iterate(_actor(tenant_id), Search(text, **span)))
        wrong += found != expected
    print(f"\n{len(asked)} searches over {len(texts):,} records against a scan: {wrong} differ\n", flush=True)


def _writing(tenant_id: UUID, owner_url: str, days: Sequence[Day]) -> None:
    """How many records a second the worker indexes, after all the others."""
    from audit.search import index

    day = Day(days[2].day, 4000, 99)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        for rows in _blocks(tenant_id, day):
            with owner.cursor() as cursor:
                for part in PARTS[:3]:
                    columns, found = rows[part]
                    if part != "audit_record":
                        owner.execute("SET session_replication_role = replica")
                    with cursor.copy(f"COPY {part} ({', '.join(columns)}) FROM STDIN") as copy:
                        for row in found:
                            copy.write_row(row)
                owner.execute("SET session_replication_role = origin")
    started, before = time.perf_counter(), time.process_time()
    done = index.index_waiting()
    seconds = time.perf_counter() - started
    print(
        f"indexing: {done:,} records at {done / seconds:,.0f} a second; "
        f"{(time.process_time() - before) / done * 1e3:.2f} ms of our processor each",
        flush=True,
    )


# Other indexes


def _compare(tenant_id: UUID, owner_url: str, days: Sequence[Day], words: Frequencies, queries: int) -> None:
    from benchmarks.peers.indexes import Arrays, Tantivy, TextVectors
    from tenants.scope import tenant_scope

    with tenant_scope(tenant_id):
        peers = [
            peer(tenant_id, owner_url, [day.day for day in days]) for peer in (Arrays, TextVectors, Tantivy)
        ]
    print(f"{'':<34}" + "".join(f"{peer.name:>22}" for peer in peers))
    records = sum(day.records for day in days)
    print(f"{'build, s':<34}" + "".join(f"{peer.build_seconds:>22.1f}" for peer in peers))
    print(f"{'bytes a record':<34}" + "".join(f"{peer.size / records:>22.0f}" for peer in peers))
    print("count up to 10,000 and newest 50: milliseconds, p50 / p95")
    for name, make in _kinds(days, words).items():
        search = make(random.Random(name))
        if any(mark in search.text for mark in '"*') or search.sort != "newest" or not search.text:
            continue
        cells = []
        for peer in peers:
            chance, times = random.Random(name), []
            for _ in range(queries):
                wanted = make(chance)
                plans = peer.plans(wanted)
                started = time.perf_counter()
                peer.ask(plans)
                times.append((time.perf_counter() - started) * 1000)
            cells.append(f"{statistics.median(times):.1f} / {statistics.quantiles(times, n=20)[-1]:.1f}")
        print(f"{name:<34}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
