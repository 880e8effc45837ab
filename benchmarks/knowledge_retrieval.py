"""How well and how fast passages are found, and when it is said that the documents do not have it.

    python -m benchmarks.knowledge_retrieval --sets DIR
    python -m benchmarks.knowledge_retrieval --chunks 100000

With --sets: CMRC 2018 (trial), DRCD (dev) and TAT-QA (dev) from their files in DIR. Every paragraph is a passage, every
question is asked of all passages of its set, by plain BM25 (words as they stand; Chinese as jieba cuts it), by Custos's words,
and by words and vectors together. Goal: recall@5 at least plain BM25's, and higher where vectors take part. Then half of the
documents are taken away: the confidence must tell the questions whose passage is gone from the others.

With --chunks: the time of a whole search over so many, in English and Chinese, with vectors that are random. Goal: p95 ≤ 60 ms.
"""

import argparse
import json
import math
import os
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import product
from benchmarks.audit_texts import Writer
from knowledge.parsing.language import language_of

A_DOCUMENT = 20  # Passages of each.
SEED = 20261201


class Question(NamedTuple):
    text: str
    passage: int


class Set(NamedTuple):
    name: str
    passages: list[str]
    questions: list[Question]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sets", type=Path, help="folder with the files of the public sets")
    arguments.add_argument("--questions", type=int, default=500, help="of each set at most")
    arguments.add_argument("--chunks", type=int, default=0, help="measure the time over so many")
    options = arguments.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    with product.folder() as folder, product.running(folder):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
        import django

        django.setup()
        if options.sets:
            for each in _sets(options.sets, options.questions):
                _measure(each)
        if options.chunks:
            _time(options.chunks)


# The sets ----------------------------------------------------------------------------------------------


def _sets(folder: Path, most: int) -> Iterable[Set]:
    yield _squad("CMRC 2018 trial (simplified Chinese)", folder / "cmrc2018_trial.json", most)
    yield _squad("DRCD dev (traditional Chinese)", folder / "DRCD_dev.json", most)
    yield _tatqa("TAT-QA dev (English)", folder / "tatqa_dataset_dev.json", most)


def _squad(name: str, path: Path, most: int) -> Set:
    passages, questions = [], []
    for article in json.loads(path.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            passages.append(paragraph["context"])
            questions += [Question(each["question"], len(passages) - 1) for each in paragraph["qas"]]
    return Set(name, passages, _some(questions, most))


def _tatqa(name: str, path: Path, most: int) -> Set:
    """Of those questions whose answer stands in one paragraph of text."""
    passages, questions = [], []
    for context in json.loads(path.read_text()):
        places = {}
        for paragraph in context["paragraphs"]:
            places[str(paragraph["order"])] = len(passages)
            passages.append(paragraph["text"])
        for each in context["questions"]:
            if each["answer_from"] == "text" and len(each["rel_paragraphs"]) == 1:
                questions.append(Question(each["question"], places[each["rel_paragraphs"][0]]))
    return Set(name, passages, _some(questions, most))


def _some(questions: list[Question], most: int) -> list[Question]:
    return random.Random(SEED).sample(questions, min(most, len(questions)))


# What is found ------------------------------------------------------------------------------------------


def _measure(each: Set) -> None:
    print(f"\n{each.name}: {len(each.passages)} passages, {len(each.questions)} questions")
    asked = _Base(each.passages, embedded=True)
    _report("plain BM25", each, _plain_bm25(each.passages))
    _report("words", each, asked.by(meaning=0))
    if asked.reads(each.questions[0].text):
        _report("vectors", each, asked.by(meaning=1))
        _report("words and vectors", each, asked.by())
    _abstention(each)


def _report(name: str, each: Set, find: Callable[[str], Sequence[int]]) -> None:
    ranks = []
    for question in each.questions:
        found = list(find(question.text))
        ranks.append(found.index(question.passage) + 1 if question.passage in found else 0)
    recalls = [sum(0 < rank <= at for rank in ranks) / len(ranks) for at in (1, 5, 10)]
    mrr = statistics.mean(1 / rank if rank else 0.0 for rank in ranks)
    ndcg = statistics.mean(1 / math.log2(rank + 1) if rank else 0.0 for rank in ranks)
    said = ", ".join(f"recall@{at} {value:.3f}" for at, value in zip((1, 5, 10), recalls, strict=True))
    print(f"  {name:18} {said}, MRR {mrr:.3f}, nDCG@10 {ndcg:.3f}")


def _plain_bm25(passages: Sequence[str]) -> Callable[[str], list[int]]:
    """As in a textbook: words in lower case, Chinese cut by jieba, no stems, no pairs; k1 1.2, b 0.75."""
    import rjieba

    def words(text: str) -> list[str]:
        found: list[str] = []
        for han, word in re.findall(r"([㐀-鿿]+)|([^\W_]+)", text.casefold()):
            found += rjieba.cut(han) if han else [word]
        return found

    counts = [Counter(words(text)) for text in passages]
    having = Counter(word for count in counts for word in count)
    lengths = np.array([count.total() for count in counts])
    burden = 1 - 0.75 + 0.75 * lengths / lengths.mean()

    def find(question: str) -> list[int]:
        scores = np.zeros(len(passages))
        for word in set(words(question)):
            often = np.array([count[word] for count in counts])
            rarity = math.log1p((len(passages) - having[word] + 0.5) / (having[word] + 0.5))
            scores += rarity * often * 2.2 / (often + 1.2 * burden)
        return [int(at) for at in np.argsort(-scores, kind="stable")[:10] if scores[at] > 0]

    return find


class _Base:
    """A base of Custos with these passages, and who asks it. numbers: of the passages, by what was stored."""

    def __init__(self, passages: Sequence[str], *, embedded: bool) -> None:
        from knowledge.retrieval import vectors
        from tenants.access import actor_for_user
        from tenants.models import User
        from tenants.scope import tenant_scope

        self.actor = actor_for_user(
            user=User.objects.get(email="curator@acme-bank.example"),
            tenant_slug="acme-bank",
            session_ref="benchmark",
        )
        self.passages = list(passages)
        with tenant_scope(self.actor.tenant_id):
            self.base = _make_base(self.actor)
            self.model = vectors.model_of(self.base)
        self.places: dict[tuple[Any, int], int] = {}
        self._asked: dict[str, Any] = {}
        for start in range(0, len(passages), A_DOCUMENT):
            self._add(start, passages[start : start + A_DOCUMENT], embedded)

    def reads(self, text: str) -> bool:
        return self.model is not None and self.model.reads(language_of(text))

    def _add(self, first: int, texts: Sequence[str], embedded: bool) -> None:
        from knowledge.retrieval import vectors
        from tenants.scope import tenant_scope

        with tenant_scope(self.actor.tenant_id):
            version, chunks = _make_version(self.base, texts)
        for chunk in chunks:
            self.places[version.pk, chunk.ordinal] = first + chunk.ordinal
        if embedded and self.reads(texts[0]):
            made = vectors.embed(self.actor.tenant_id, list(texts), model=self.model)
            with tenant_scope(self.actor.tenant_id):
                vectors.store(version, chunks, made, model=self.model)

    def search(self, text: str, *, passages: int = 10, **options: Any) -> list[Any]:
        from knowledge.retrieval.options import Options
        from knowledge.retrieval.search import Asked, search
        from tenants.scope import tenant_scope

        asked, wanted = Asked(text, self._vectors(text)), Options(passages=passages, **options)
        with tenant_scope(self.actor.tenant_id):
            return search(self.actor, [self.base], asked, models={self.base.pk: self.model}, options=wanted)

    def by(self, **options: Any) -> Callable[[str], list[int]]:
        def find(question: str) -> list[int]:
            found = self.search(question, **options)
            return [self.places[each.version_id, each.ordinal] for each in found]

        return find

    def _vectors(self, text: str) -> dict[str, Any]:
        from knowledge.retrieval import vectors

        if not self.reads(text):
            return {}
        if text not in self._asked:
            (self._asked[text],) = vectors.embed(self.actor.tenant_id, [text], model=self.model)
        return {self.model.label: self._asked[text]}


def _make_base(actor: Any) -> Any:
    from knowledge import sealing
    from knowledge.models import Base
    from tenants import access
    from tenants.access import Level
    from tenants.models import User

    base = Base(tenant_id=actor.tenant_id, owner_id=actor.user_id, embedding_model="all-minilm-l6-v2")
    base.sealed_name = sealing.seal(
        "b", tenant_id=actor.tenant_id, base_id=base.pk, row=base.pk, field="name"
    )
    base.save(force_insert=True)
    access.put_grant(base, User.objects.get(pk=actor.user_id), Level.OWNER)
    return base


def _make_version(base: Any, texts: Sequence[str]) -> tuple[Any, list[Any]]:
    from knowledge import sealing
    from knowledge.models import Chunk, Document, State, Version
    from knowledge.retrieval import index

    place = {"tenant_id": base.tenant_id, "base_id": base.pk}
    document = Document(tenant_id=base.tenant_id, base=base, owner_id=base.owner_id)
    document.sealed_name = sealing.seal("d", row=document.pk, field="name", **place)
    document.save(force_insert=True)
    version = Version(
        tenant_id=base.tenant_id, base=base, document=document, number=1, size=0, digest=b"-",
        sealed_file_name=b"-", state=State.READY, chunk_count=len(texts),
    )  # fmt: skip
    version.save(force_insert=True)
    chunks = []
    for ordinal, text in enumerate(texts):
        chunk = Chunk(tenant_id=base.tenant_id, version=version, ordinal=ordinal, start=0, end=len(text))
        chunk.sealed = sealing.seal({"text": text, "headings": []}, row=chunk.pk, field="chunk", **place)
        chunks.append(chunk)
    Chunk.objects.bulk_create(chunks)
    index.add(version, list(zip(chunks, texts, strict=True)))
    version.save(update_fields=["lengths"])
    return version, chunks


# When nothing is said -------------------------------------------------------------------------------------


def _abstention(each: Set) -> None:
    """Of questions whose passage is there and of those whose passage is not, the confidence in what is found."""
    from knowledge.answers.confidence import confidence_of

    kept = {place for place in range(len(each.passages)) if place // A_DOCUMENT % 2 == 0}
    base = _Base([each.passages[place] for place in sorted(kept)], embedded=True)
    there, gone = [], []
    for question in each.questions:
        found = base.search(question.text, passages=5)
        confidence = confidence_of([passage.scores for passage in found], language_of(question.text))
        (there if question.passage in kept else gone).append(confidence)
    wins = sum((a > b) + (a == b) / 2 for a in there for b in gone) / (len(there) * len(gone))
    print(f"  confidence: {len(there)} with their passage, {len(gone)} without; AUC {wins:.3f}")
    for threshold in (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8):
        silent = sum(value < threshold for value in there) / len(there)
        honest = sum(value < threshold for value in gone) / len(gone)
        print(f"    below {threshold:.2f}: wrongly silent {silent:.3f}, rightly {honest:.3f}")


# Time -----------------------------------------------------------------------------------------------------


def _time(count: int) -> None:
    """Over passages of made-up English and Chinese, whose words are as frequent as real ones (benchmarks/audit_texts.py)."""
    writer = Writer(SEED)
    texts = [" ".join(writer.record())[:900] for _ in range(count)]
    print(f"\n{count} chunks", flush=True)
    started = time.perf_counter()
    base = _Base(texts, embedded=False)
    print(f"  filled in {time.perf_counter() - started:.0f} s; vectors", flush=True)
    _random_vectors(base)
    chance = random.Random(SEED)
    for language in ("en", "zh"):
        asked = [text for text in texts if language_of(text) == language]
        questions = [_question(chance.choice(asked), language, chance) for _ in range(100)]
        for question in questions:
            base._vectors(question)  # The inference service's time is not the search's.
        times = sorted(_seconds(base, question) for question in questions)
        print(
            f"  {language}: p50 {times[50] * 1000:.0f} ms, p95 {times[95] * 1000:.0f} ms (limit 60)",
            flush=True,
        )


def _seconds(base: _Base, question: str) -> float:
    started = time.perf_counter()
    base.search(question, passages=5)
    return time.perf_counter() - started


def _question(passage: str, language: str, chance: random.Random) -> str:
    """Some of the words of a passage."""
    if language == "zh":
        at = chance.randrange(max(len(passage) - 16, 1))
        return passage[at : at + 16]
    words = passage.split()
    return " ".join(chance.sample(words, min(10, len(words)))) + "?"


def _random_vectors(base: _Base) -> None:
    from knowledge.models import Chunk, Version
    from knowledge.retrieval import vectors
    from tenants.scope import tenant_scope

    chance = np.random.default_rng(SEED)
    with tenant_scope(base.actor.tenant_id):
        ids = list(Version.objects.filter(base=base.base).values_list("pk", flat=True))
    for version_id in ids:
        with tenant_scope(base.actor.tenant_id):
            version = Version.objects.get(pk=version_id)
            chunks = list(Chunk.objects.filter(version=version))
            made = chance.normal(size=(len(chunks), 384))
            made /= np.linalg.norm(made, axis=1, keepdims=True)
            vectors.store(version, chunks, list(made), model=base.model)


if __name__ == "__main__":
    main()
