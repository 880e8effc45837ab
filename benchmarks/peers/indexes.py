"""Indexes over the same hashed words as the audit's own: what it is compared with.

Each is made of what the index of the audit holds, asked for the same tokens, and answers with a count up to 10,000 and
the ids of the newest 50. Tantivy takes the package `tantivy`; its files would stand in an encrypted folder.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

MOST, PAGE = 10_001, 50


class Arrays:
    """The audit's own: arrays of 64-bit numbers under GIN."""

    name = "bigint[] under GIN"

    def __init__(self, tenant_id: UUID, owner_url: str, days: Sequence[date]) -> None:
        self.tenant_id, self.days = tenant_id, sorted(days, reverse=True)
        self.owner = psycopg.connect(owner_url, autocommit=True)
        self.owner.execute("SET maintenance_work_mem = '512MB'")
        self.build()

    def build(self) -> None:
        """Time the index of words alone, on copies of the words."""
        self.build_seconds, self.size = 0.0, 0
        for day in self.days:
            started = time.perf_counter()
            self.owner.execute(
                f"CREATE TABLE peer AS SELECT tenant_id, request_id, words FROM audit_search_entry_{day:%Y%m%d}"
            )
            self.owner.execute("CREATE INDEX ON peer USING gin (words)")
            self.owner.execute("CREATE INDEX ON peer (tenant_id, request_id)")
            self.build_seconds += time.perf_counter() - started
            self.size += self.owner.execute("SELECT pg_total_relation_size('peer')").fetchone()[0]
            self.owner.execute("DROP TABLE peer")
        self.owner.execute("SELECT set_config('custos.tenant', %s, false)", [str(self.tenant_id)])

    def plans(self, search: Any) -> list[Any]:
        """What each day is asked."""
        from audit.search.engine import Sort, _Run
        from audit.search.query import parse
        from benchmarks.audit_search import _actor
        from tenants.scope import tenant_scope

        with tenant_scope(self.tenant_id):
            run = _Run(_actor(self.tenant_id), search, parse(search.text))
            low, high = run._low, run._high
            return [
                (unit.day, run._plan(unit, None, Sort.NEWEST))
                for units in run._batches()
                for unit in units
                if low <= high
            ]

    def ask(self, plans: list[Any]) -> int:
        import json

        row = self.owner.execute(
            "WITH hits AS MATERIALIZED (SELECT request_id FROM audit_search_hits(%s::date[], %s::text[]::jsonb[], 'newest', %s)) "
            "SELECT (SELECT count(*) FROM hits), array(SELECT request_id FROM hits ORDER BY 1 DESC LIMIT 50)",
            [[day for day, _ in plans], [json.dumps(plan) for _, plan in plans], MOST],
        ).fetchone()
        return row[0]

    def close(self) -> None:
        self.owner.close()


class TextVectors(Arrays):
    """The hashes as lexemes of a tsvector, without places."""

    name = "tsvector under GIN"

    def build(self) -> None:
        self.build_seconds, self.size = 0.0, 0
        for day in self.days:
            started = time.perf_counter()
            table = f"peer_vectors_{day:%Y%m%d}"
            self.owner.execute(f"DROP TABLE IF EXISTS {table}")
            self.owner.execute(
                f"CREATE TABLE {table} AS SELECT tenant_id, request_id, array_to_tsvector(array("
                "SELECT rtrim(encode(int8send(word), 'base64'), '=') FROM unnest(words) AS word)) AS words "
                f"FROM audit_search_entry_{day:%Y%m%d}"
            )
            self.owner.execute(f"CREATE INDEX ON {table} USING gin (words)")
            self.owner.execute(f"CREATE INDEX ON {table} (tenant_id, request_id)")
            self.build_seconds += time.perf_counter() - started
            self.size += self.owner.execute("SELECT pg_total_relation_size(%s)", [table]).fetchone()[0]
            self.owner.execute(f"VACUUM ANALYZE {table}")

    def ask(self, plans: list[Any]) -> int:
        total = 0
        newest: list[Any] = []
        for day, plan in plans:
            asked = " & ".join(
                [
                    *map(_lexeme, plan["must"]),
                    *("(" + " | ".join(map(_lexeme, each)) + ")" for each in plan["any"]),
                    *(f"!{_lexeme(each)}" for each in plan["none"]),
                ]
            )
            rows = self.owner.execute(
                f"SELECT request_id FROM peer_vectors_{day:%Y%m%d} WHERE tenant_id = %s AND words @@ %s::tsquery "
                "AND request_id >= %s AND request_id < %s ORDER BY request_id DESC LIMIT %s",
                [self.tenant_id, asked, plan["low"], plan["high"], MOST - total],
            ).fetchall()
            total += len(rows)
            newest += rows[: PAGE - len(newest)]
            if total >= MOST:
                break
        return total


def _lexeme(word: int) -> str:
    import base64

    return "'" + base64.b64encode(word.to_bytes(8, "big", signed=True)).decode().rstrip("=") + "'"


class Tantivy(Arrays):
    """A day, an index of Tantivy: hashes in hexadecimal as terms, time as a fast field."""

    name = "Tantivy"

    def build(self) -> None:
        import tantivy

        schema = tantivy.SchemaBuilder()
        schema.add_text_field("words", tokenizer_name="whitespace", index_option="basic")
        schema.add_unsigned_field("time", stored=False, indexed=True, fast=True)
        schema.add_bytes_field("id", stored=True)
        built = schema.build()
        self.folder = Path(tempfile.mkdtemp(prefix="tantivy-"))
        self.indexes = {}
        started = time.perf_counter()
        for day in self.days:
            place = self.folder / str(day)
            place.mkdir()
            index = tantivy.Index(built, path=str(place))
            writer = index.writer(heap_size=200_000_000, num_threads=2)
            with self.owner.transaction(), self.owner.cursor(name="words", binary=True) as rows:
                rows.itersize = 5000
                rows.execute(f"SELECT request_id, words FROM audit_search_entry_{day:%Y%m%d}")
                for request_id, words in rows:
                    document = tantivy.Document()
                    document.add_text("words", " ".join(map(_hex, set(words))))
                    document.add_unsigned("time", request_id.int >> 80)
                    document.add_bytes("id", request_id.bytes)
                    writer.add_document(document)
            writer.commit()
            writer.wait_merging_threads()
            index.reload()
            self.indexes[day] = index
        self.build_seconds = time.perf_counter() - started
        self.size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def ask(self, plans: list[Any]) -> int:
        import tantivy
        from tantivy import Occur, Query

        total = 0
        newest: list[bytes] = []
        for day, plan in plans:
            index = self.indexes[day]

            def term(word: int, schema: Any = index.schema) -> Any:
                return Query.term_query(schema, "words", _hex(word), index_option="basic")

            parts = [(Occur.Must, term(word)) for word in plan["must"]]
            for each in plan["any"]:
                parts.append((Occur.Must, Query.boolean_query([(Occur.Should, term(word)) for word in each])))
            parts += [(Occur.MustNot, term(word)) for word in plan["none"]]
            low, high = UUID(plan["low"]).int >> 80, UUID(plan["high"]).int >> 80
            parts.append(
                (
                    Occur.Must,
                    Query.range_query(
                        index.schema, "time", tantivy.FieldType.Unsigned, low, high, True, False
                    ),
                )
            )
            searcher = index.searcher()
            found = searcher.search(Query.boolean_query(parts), limit=PAGE, count=True, order_by_field="time")
            total += found.count
            newest += [searcher.doc(address)["id"][0] for _, address in found.hits][: PAGE - len(newest)]
            if total >= MOST:
                break
        return total

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _hex(word: int) -> str:
    return f"{word & 0xFFFFFFFFFFFFFFFF:016x}"
