"""A tenant's whole log, checked: rows against leaves, leaves against roots, roots against signatures and the witness.

Each record's leaf is computed anew from its rows, the root of every head from the leaves, which shows at once that each
head continues the one before. What the database says of itself is never enough: the last head is compared with the
one that the witness holds. Nothing is decrypted.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Exists, Max, OuterRef, QuerySet

from audit.tree import anchors, merkle, metrics, recomputed, selectors, signing, statements, stored
from audit.tree.models import Anchoring, Checkpoint, Leaf, Node, Statement
from audit.tree.notes import BadNote, Note, Verifier
from audit.tree.notes import Checkpoint as Head
from tenants import clock
from tenants.ids import time_of
from tenants.scope import tenant_scope

BATCH = 5000
# Longer than any answer takes, for only the beginning of a record tells its time here.
UNSIGNED_AFTER = timedelta(minutes=10)
MOST_FINDINGS = 200  # Told one by one; the rest is counted.

Progress = Callable[[int, int], None]
Ranges = list[tuple[int, int]]


class Code(StrEnum):
    """What can be found wrong."""

    ALTERED = "altered"
    MISSING = "missing"
    UNPLACED = "unplaced"
    CUT = "cut"
    KEPT_HASH = "kept_hash"
    STATEMENT = "statement"
    TOMBSTONE = "tombstone"
    SIGNATURE = "signature"
    ROOT = "root"
    UNSIGNED = "unsigned"
    WITNESS_AHEAD = "witness_ahead"
    WITNESS_DIFFERS = "witness_differs"
    WITNESS_FORGOT = "witness_forgot"
    REFUSED = "refused"


class WitnessState(StrEnum):
    """What the witness says of the log."""

    AGREES = "agrees"
    DIFFERS = "differs"
    AWAY = "away"
    EMPTY = "empty"  # Nothing was laid down yet, and nothing had to be.


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong. seq: the leaf, or the size of the head, that it is about; None for the whole log."""

    code: Code
    seq: int | None = None
    request_id: UUID | None = None
    detail: str = ""


@dataclass(slots=True)
class Report:
    """What a verification saw. records: with their rows; gone: destroyed under retention or erased, and proven to be."""

    leaves: int = 0
    records: int = 0
    statements: int = 0
    gone: int = 0
    heads: int = 0
    witness: WitnessState = WitnessState.EMPTY
    witness_size: int = 0
    witness_time: datetime | None = None
    started: datetime = field(default_factory=clock.now)
    finished: datetime | None = None
    findings: list[Finding] = field(default_factory=list)
    findings_count: int = 0

    @property
    def is_sound(self) -> bool:
        return not self.findings_count

    @property
    def is_complete(self) -> bool:
        """Whether the witness could be asked."""
        return self.witness != WitnessState.AWAY

    def add(self, finding: Finding) -> None:
        self.findings_count += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        plain = asdict(self)
        for name in ("started", "finished", "witness_time"):
            value = plain[name]
            plain[name] = value and value.astimezone(UTC).isoformat()
        for finding in plain["findings"]:
            finding["request_id"] = finding["request_id"] and str(finding["request_id"])
        return plain


def verify(tenant_id: UUID, progress: Progress = lambda done, total: None) -> Report:
    """Check everything. progress: called with the leaves that are done, and all of them.

    What is appended meanwhile is left to the next verification. Raises DatabaseError.
    """
    report = Report()
    # In this order, for the log grows meanwhile: the witness has seen what we know of, and what it has seen is there.
    with tenant_scope(tenant_id):
        laid = _laid_down()
    witness = _ask_witness(tenant_id, report)
    with tenant_scope(tenant_id):
        heads = _heads(tenant_id, report)
        total = stored.size()
    sizes = {size for size, _root in heads} | ({witness.size} if witness else set())
    walk = _Walk(tenant_id, report, total, sorted(sizes))
    walk.run(progress)
    with tenant_scope(tenant_id):
        _compare_heads(report, walk, heads)
        _compare_witness(report, walk, witness, laid)
        _kept_hashes(report, walk)
        _told(report, walk)
        _what_waits(report, total, heads)
    report.finished = clock.now()
    metrics.findings.labels(str(tenant_id)).set(report.findings_count)
    return report


class _Walk:
    """Once through all leaves, in order: the roots at the sizes of heads, and every record against its rows."""

    def __init__(self, tenant_id: UUID, report: Report, total: int, sizes: list[int]) -> None:
        self.roots: dict[int, bytes] = {}
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.missing = array("q")
        self.stripped: dict[
            int, recomputed.Difference
        ] = {}  # Rows differ, by sequence; an erasure may say why.
        self.total = 0
        self._tenant_id, self._report, self._expected, self._sizes = tenant_id, report, total, sizes

    def run(self, progress: Progress) -> None:
        growing, kept = merkle.Growing(), _Subtrees()
        sizes = iter([*(size for size in self._sizes if size), 0])
        next_size = next(sizes)
        for start in range(0, self._expected, BATCH):
            end = min(start + BATCH, self._expected)
            with tenant_scope(self._tenant_id):
                rows = list(
                    Leaf.objects.filter(seq__gte=start, seq__lt=end)
                    .order_by("seq")
                    .values_list("seq", "hash", "day", "keeping")
                )
                self._records(rows, start, end)
            for place, (seq, found, _day, _keeping) in enumerate(rows, start):
                if seq != place:
                    self._report.add(Finding(Code.CUT, place))
                    return
                found = bytes(found)
                growing.add(found)
                kept.add(found)
                if growing.size == next_size:
                    self.roots[next_size] = growing.root()
                    next_size = next(sizes)
            if len(rows) != end - start:
                self._report.add(Finding(Code.CUT, start + len(rows)))
                return
            self.total = growing.size
            progress(end, self._expected)
        self.nodes = kept.found
        self._report.leaves = self.total

    def _records(self, rows: list[Any], start: int, end: int) -> None:
        of_records = [row for row in rows if row[3] != Leaf.STATEMENT]
        for day in sorted({row[2] for row in of_records}):
            for difference in recomputed.differences(day, start, end):
                if difference.is_there:
                    self.stripped[difference.seq] = difference
                else:
                    self.missing.append(difference.seq)
        self._report.records += len(of_records)


class _Subtrees:
    """The hashes of complete subtrees of 256, 65,536 … leaves, as leaves go by."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], bytes] = {}
        self._levels: list[list[bytes]] = [[] for _ in range(len(stored.LEVELS) + 1)]
        self._counts = [0] * (len(stored.LEVELS) + 1)

    def add(self, leaf: bytes) -> None:
        self._levels[0].append(leaf)
        for index, level in enumerate(stored.LEVELS):
            if len(self._levels[index]) < stored.BLOCK:
                return
            found = merkle.root(self._levels[index])
            self._levels[index] = []
            self.found[level, self._counts[index + 1]] = found
            self._counts[index + 1] += 1
            self._levels[index + 1].append(found)
        self._levels[-1] = []


def _heads(tenant_id: UUID, report: Report) -> list[tuple[int, bytes]]:
    """(size, root) of every head with a signature that is right."""
    verifier, found = signing.verifier(tenant_id), []
    rows = Checkpoint.objects.order_by("size").values_list("size", "root", "note")
    for size, root, text in rows.iterator(chunk_size=BATCH):
        report.heads += 1
        try:
            note = Note.parse(text)
            head = Head.parse(note.text)
        except BadNote as error:
            report.add(Finding(Code.SIGNATURE, size, detail=str(error)))
            continue
        is_own = head == Head(verifier.name, size, bytes(root)) and note.signed_by(verifier) is not None
        if is_own:
            found.append((size, head.root))
        else:
            report.add(Finding(Code.SIGNATURE, size))
    return found


def _ask_witness(tenant_id: UUID, report: Report) -> Head | None:
    """The witness's last head; None when it is away, has none, or gives one that is not signed as it must be."""
    verifier, origin = anchors.witness_verifier(), signing.origin(tenant_id)
    try:
        text = anchors.Witness().head(origin)
    except anchors.Away:
        report.witness = WitnessState.AWAY
        return None
    if text is None or verifier is None:
        return None
    return _witnessed(text, verifier, tenant_id, report)


def _witnessed(text: str, verifier: Verifier, tenant_id: UUID, report: Report) -> Head | None:
    try:
        note = Note.parse(text)
        head = Head.parse(note.text)
    except BadNote as error:
        report.witness = WitnessState.DIFFERS
        report.add(Finding(Code.WITNESS_DIFFERS, detail=str(error)))
        return None
    signature = note.signed_by(verifier)
    own = signing.verifier(tenant_id)
    if signature is None or note.signed_by(own) is None or head.origin != own.name:
        report.witness = WitnessState.DIFFERS
        report.add(Finding(Code.WITNESS_DIFFERS, head.size))
        return None
    report.witness_size, report.witness_time = head.size, datetime.fromtimestamp(signature.time, UTC)
    return head


def _compare_heads(report: Report, walk: _Walk, heads: Iterable[tuple[int, bytes]]) -> None:
    for size, root in heads:
        if size > walk.total:
            report.add(Finding(Code.CUT, size))
        elif walk.roots.get(size) != root:
            report.add(Finding(Code.ROOT, size))


def _laid_down() -> int:
    """The size of the largest head that the witness signed, as the database has it."""
    accepted = Anchoring.objects.filter(anchor=anchors.WITNESS, outcome=Anchoring.Outcome.ACCEPTED)
    return accepted.aggregate(largest=Max("size"))["largest"] or 0


def _compare_witness(report: Report, walk: _Walk, head: Head | None, laid: int) -> None:
    if head is None:
        if report.witness == WitnessState.EMPTY and laid:
            report.witness = WitnessState.DIFFERS
            report.add(Finding(Code.WITNESS_FORGOT))
    elif head.size < laid:
        report.witness = WitnessState.DIFFERS
        report.add(Finding(Code.WITNESS_FORGOT, head.size))
    elif head.size > walk.total:
        report.witness = WitnessState.DIFFERS
        report.add(Finding(Code.WITNESS_AHEAD, head.size))
    elif head.size and walk.roots.get(head.size) != head.root:
        report.witness = WitnessState.DIFFERS
        report.add(Finding(Code.WITNESS_DIFFERS, head.size))
    else:
        report.witness = WitnessState.AGREES
    if report.witness == WitnessState.AGREES:
        for detail in selectors.alarms().refusals:
            report.add(Finding(Code.REFUSED, detail=detail))


def _kept_hashes(report: Report, walk: _Walk) -> None:
    """A wrong kept hash alters no record, but proofs made from it prove nothing."""
    kept = Node.objects.order_by("level", "position").values_list("level", "position", "hash")
    found = {(level, position) for level, position in walk.nodes}
    for level, position, value in kept.iterator(chunk_size=BATCH):
        found.discard((level, position))
        expected = walk.nodes.get((level, position))
        if expected is None and (position + 1) << level > walk.total:
            continue  # It was completed meanwhile.
        if expected != bytes(value):
            report.add(Finding(Code.KEPT_HASH, position << level))
    for level, position in sorted(found):
        report.add(Finding(Code.KEPT_HASH, position << level))


def _told(report: Report, walk: _Walk) -> None:
    """Statements against their leaves, and what is missing against the tombstones and erasures that tell of it."""
    gone: Ranges = []
    erased: Ranges = []
    pseudonymised: Ranges = []
    for seq, statement_id, row in _statements():
        report.statements += seq is not None
        if row is None or not statements.is_signed(row):
            report.add(Finding(Code.STATEMENT, seq, statement_id))
            continue
        said = statements.read(row.text)
        if said is None or said.kind not in statements.TELLING:
            continue
        covered = _covered(said.body, walk.total)
        if covered is None:
            report.add(Finding(Code.TOMBSTONE, seq, statement_id))
        elif said.kind == statements.TOMBSTONE:
            gone += covered
        else:
            erased += covered
            if said.body.get("metadata") != "kept":
                pseudonymised += covered
    explained, stripped, renamed = _Covered(gone + erased), _Covered(erased), _Covered(pseudonymised)
    for seq in walk.missing:
        report.records -= 1
        if seq in explained:
            report.gone += 1
        else:
            report.add(Finding(Code.MISSING, seq, _request_at(seq)))
    for seq, difference in walk.stripped.items():
        if (seq in stripped and difference.is_intact_but_content) or seq in renamed:
            report.gone += 1
            report.records -= 1
        else:
            report.add(Finding(Code.ALTERED, seq, difference.request_id))


def _statements() -> Iterator[tuple[int | None, UUID, Statement | None]]:
    """(sequence, id, statement) of all in the log, None for one that is not what its leaf says; then what waits.

    A tombstone tells of what is gone from its commit on, and gets its place a moment later.
    """
    leaves = Leaf.objects.filter(keeping=Leaf.STATEMENT).order_by("seq")
    for batch in _batches(leaves.values_list("seq", "hash", "request_id").iterator(chunk_size=BATCH)):
        rows = {row.pk: row for row in Statement.objects.filter(id__in=[each[2] for each in batch])}
        for seq, found_hash, statement_id in batch:
            row = rows.get(statement_id)
            is_whole = row is not None and statements.hash_of(row.text) == bytes(found_hash)
            yield seq, statement_id, row if is_whole else None
    for row in _unplaced_statements():
        yield None, row.pk, row


def _unplaced_statements() -> QuerySet[Statement]:
    placed = Leaf.objects.filter(request_id=OuterRef("id"), tenant_id=OuterRef("tenant_id"))
    return Statement.objects.filter(~Exists(placed))


def _covered(body: dict[str, Any], total: int) -> Ranges | None:
    """The leaves that a tombstone or erasure tells of, from sequence to sequence; None when it tells wrongly of them."""
    try:
        if "sequences" in body:
            ranges = [(int(first), int(last)) for first, last in body["sequences"]]
            leaves = _leaves_in(ranges)
        else:
            day = date.fromisoformat(body["day"])
            rows = Leaf.objects.filter(day=day, keeping=body["keeping"]).order_by("seq")
            leaves = list(rows.values_list("seq", "hash", "day", "keeping"))
            ranges = _as_ranges(seq for seq, *_ in leaves)
        count, root = int(body["count"]), bytes.fromhex(body["root"])
    except (KeyError, TypeError, ValueError):
        return None
    # A statement of a day tells of that day alone, whatever ranges it names.
    for name, place in (("day", 2), ("keeping", 3)):
        if name in body and any(str(leaf[place]) != str(body[name]) for leaf in leaves):
            return None
    if any(leaf[3] == Leaf.STATEMENT for leaf in leaves):
        return None
    if count != len(leaves) or root != merkle.root([bytes(leaf[1]) for leaf in leaves]):
        return None
    return [(first, last) for first, last in ranges if first < total]


def _leaves_in(ranges: Ranges) -> list[tuple[int, bytes, date, str]]:
    found: list[tuple[int, bytes, date, str]] = []
    before = -1
    for first, last in ranges:
        if first <= before or last < first:
            raise ValueError("the ranges are not in order")
        rows = Leaf.objects.filter(seq__gte=first, seq__lte=last).order_by("seq")
        found += list(rows.values_list("seq", "hash", "day", "keeping"))
        before = last
    return found


def _what_waits(report: Report, total: int, heads: list[tuple[int, bytes]]) -> None:
    """Closed records that have no leaf after a minute, and leaves that no head covers after one."""
    until = clock.now() - selectors.LATE_AFTER
    for day in selectors.days_with_records():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT c.request_id FROM audit_completion AS c WHERE c.day = %s AND c.created < %s AND NOT EXISTS "
                "(SELECT FROM audit_leaf AS l WHERE l.tenant_id = c.tenant_id AND l.request_id = c.request_id)",
                [day, until],
            )
            for (request_id,) in cursor.fetchall():
                report.add(Finding(Code.UNPLACED, request_id=request_id))
    for request_id in _unplaced_statements().filter(created__lt=until).values_list("id", flat=True):
        report.add(Finding(Code.UNPLACED, request_id=request_id))
    signed_size = max((size for size, _root in heads), default=0)
    first = Leaf.objects.filter(seq=signed_size).first() if total > signed_size else None
    if first is not None and _is_old(first.request_id):
        report.add(Finding(Code.UNSIGNED, signed_size))


def _is_old(request_id: UUID) -> bool:
    # An id of another kind is none of ours.
    return request_id.version != 7 or time_of(request_id) < clock.now() - UNSIGNED_AFTER


def _request_at(seq: int) -> UUID | None:
    return Leaf.objects.filter(seq=seq).values_list("request_id", flat=True).first()


def _as_ranges(places: Iterable[int]) -> Ranges:
    """Places in order as ranges from first to last."""
    ranges: Ranges = []
    for place in places:
        if ranges and ranges[-1][1] == place - 1:
            ranges[-1] = (ranges[-1][0], place)
        else:
            ranges.append((place, place))
    return ranges


class _Covered:
    """Whether a place is in any of many ranges."""

    def __init__(self, ranges: Ranges) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(ranges):
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def __contains__(self, place: int) -> bool:
        index = bisect_right(self._firsts, place) - 1
        return index >= 0 and place <= self._lasts[index]


def _batches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
