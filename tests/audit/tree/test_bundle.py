"""A bundle proves what it says to somebody who has nothing of ours, and nothing in it can be changed unnoticed."""

import base64
import importlib.util
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.conf import settings

from audit import output, record, tree
from audit.models import AuditRecord
from audit.output import Part
from audit.selectors import ReasonRequired
from audit.tree import anchors, bundle, selectors, signing, statements
from audit.tree.models import Leaf
from audit.tree.notes import Signer, Verifier
from tenants.access import Actor, NotVisible
from tenants.ids import uuid7
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation
from tests.audit.tree.conftest import WitnessProcess
from tests.conftest import Company
from tests.support.services import Services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("witness")]

PROGRAM = Path(settings.BASE_DIR) / "audit" / "verifier" / "custos_verify.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("custos_verify", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["custos_verify"] = module
    spec.loader.exec_module(module)
    return module


custos_verify = _load()


class Exported:
    """A bundle in memory, with the keys of its log: unpacked, changed, packed again and verified."""

    def __init__(self, tenant_id: UUID, data: bytes, path: Path) -> None:
        self.tenant_id, self.data, self.path = tenant_id, data, path
        self.key = str(signing.verifier(tenant_id))
        self.witness = str(anchors.witness_verifier())
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}

    def lines(self, name: str = "records.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[name].splitlines()]

    def packed(self, files: dict[str, bytes], *, resigned: bool = False) -> bytes:
        """A zip of these files. resigned: with a manifest for them, as who has the log's key could make."""
        if resigned:
            manifest = json.loads(files["manifest.json"])
            for name in manifest["files"]:
                digest = custos_verify.hashlib.sha256(files[name]).hexdigest()
                manifest["files"][name] = {"bytes": len(files[name]), "sha256": digest}
            manifest["records"] = len(files["records.jsonl"].splitlines())
            text = json.dumps(manifest).encode()
            files = {
                **files,
                "manifest.json": text,
                "manifest.note": bundle._manifest_note(self.tenant_id, text).encode(),
            }
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return packed.getvalue()

    def findings(self, data: bytes | None = None, **options: Any) -> list[str]:
        self.path.write_bytes(self.data if data is None else data)
        key = custos_verify.Key.parse(self.key, custos_verify.LOG)
        witness = custos_verify.Key.parse(self.witness, custos_verify.WITNESS)
        found, _account = custos_verify.verify(self.path, key, witness, **options)
        return list(found)


@pytest.fixture
def export(officer: Actor, tmp_path: Path) -> Callable[..., Exported]:
    def export(*request_ids: UUID, actor: Actor = officer, **options: Any) -> Exported:
        file = io.BytesIO()
        bundle.write(
            file, actor=actor, request_ids=request_ids, reason="asked for by the regulator", **options
        )
        return Exported(actor.tenant_id, file.getvalue(), tmp_path / "bundle.zip")

    return export


PARTS = output.encode([Part("thinking", kind=output.Kind.REASONING), Part("said"), Part("other", choice=1)])


@pytest.fixture
def records(member: Actor) -> list[UUID]:
    """Records of every shape: text, several answers, passages, nothing delivered, an event, odd characters."""
    handles = [
        generation(member),
        generation(member, texts=(PARTS, "more")),
        generation(member, passages=[{"document": "a", "text": "b"}], texts=()),
        generation(member, input="plain \ud800 \u2028 漢字", texts=("😀", "\ud83d")),
        generation(member, status="failed", input=[{"role": "user", "content": None, "n": 1.0}], texts=("",)),
        generation(member, input=[{"role": "user", "content": "", "n": [float("nan"), float("-inf")]}]),
        record.record_event(
            actor=member, kind="group.created", detail={"before": {}, "after": {"name": "x"}}
        ),
    ]
    return [handle.request_id for handle in handles]


@pytest.fixture
def exported(export: Callable[..., Exported], records: list[UUID]) -> Exported:
    return export(*records)


def run(exported: Exported, *arguments: str) -> subprocess.CompletedProcess[str]:
    # In isolated mode and elsewhere: nothing of Custos can be imported.
    return subprocess.run(
        [sys.executable, "-I", str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=exported.path.parent,
    )


def test_a_bundle_is_verified_without_custos(exported: Exported) -> None:
    exported.path.write_bytes(exported.data)
    (exported.path.parent / "key").write_text(exported.key)
    done = run(exported, str(exported.path), "--key", "key", "--witness", exported.witness)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PROVEN: nothing was altered" in done.stdout
    assert "The witness" in done.stdout and "NOT CHECKED" not in done.stdout
    done = run(exported, str(exported.path), "--key", exported.key)
    assert done.returncode == 0 and "NOT CHECKED: the witness" in done.stdout


def test_the_verifier_imports_nothing_of_ours() -> None:
    imports = [line for line in PROGRAM.read_text().splitlines() if line.startswith(("import ", "from "))]
    allowed = {"cryptography", *sys.stdlib_module_names}
    assert {line.split()[1].partition(".")[0] for line in imports} <= allowed


def test_it_holds_what_was_asked_and_answered(exported: Exported, records: list[UUID]) -> None:
    lines = exported.lines()
    assert [line["request_id"] for line in lines] == [str(each) for each in records]
    assert list(lines[0])[:5] == ["request_id", "user_id", "input", "output", "timestamp"]
    assert lines[0]["input"] == [{"role": "user", "content": "What is a beneficial owner?"}]
    assert lines[0]["output"] == "Whoever profits."
    assert [part["text"] for part in lines[1]["output"]] == ["thinking", "saidmore", "other"]
    assert lines[2]["passages"] == [{"document": "a", "text": "b"}] and lines[2]["output"] == ""
    assert lines[3]["input"] == "plain \ud800 \u2028 漢字"
    assert {line["state"] for line in lines} == {"open"}


def test_its_lines_are_json_for_every_reader(exported: Exported) -> None:
    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    for line in exported.files["records.jsonl"].splitlines():
        json.loads(line, parse_constant=refuse)
    assert exported.findings() == []


def test_its_export_is_recorded_first_and_covered_by_its_head(
    exported: Exported, records: list[UUID]
) -> None:
    with tenant_scope(exported.tenant_id):
        event = AuditRecord.objects.get(kind="audit.export")
        detail = record.open_json(record.handle_of(event), field="input", sealed=event.input)
        place = selectors.place_of(event.id)
    assert detail["reason"] == "asked for by the regulator"
    assert detail["record_ids"] == [str(each) for each in sorted(records)]
    manifest = json.loads(exported.files["manifest.json"])
    assert place and manifest["export"]["leaf"]["sequence"] == place.sequence < manifest["checkpoint"]["size"]


def test_nothing_leaves_when_the_export_cannot_be_recorded(
    officer: Actor, records: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(**_: Any) -> None:
        raise record.AuditUnavailable("the store is down")

    monkeypatch.setattr(record, "record_event", unavailable)
    file = io.BytesIO()
    with pytest.raises(record.AuditUnavailable):
        bundle.write(file, actor=officer, request_ids=records, reason="x")
    assert file.getvalue() == b""


def test_who_may_not_export_gets_nothing(acme: Company, records: list[UUID]) -> None:
    for person in (acme.member, acme.auditor, acme.owner):
        with pytest.raises(NotVisible):
            bundle.write(io.BytesIO(), actor=acme.actor(person), request_ids=records, reason="x")


def test_a_reason_must_be_stated(officer: Actor, records: list[UUID]) -> None:
    with pytest.raises(ReasonRequired):
        bundle.write(io.BytesIO(), actor=officer, request_ids=records, reason="  ")


def test_records_of_others_are_not_there(officer: Actor, northerner: Actor, member: Actor) -> None:
    theirs = generation(northerner)
    confined = record.record_event(actor=member, kind="case.opened", detail={}, confined_to=uuid7())
    tree.extend(officer.tenant_id)
    for request_id in (theirs.request_id, confined.request_id, uuid7(), UUID(int=0)):
        with pytest.raises(NotVisible):
            bundle.write(io.BytesIO(), actor=officer, request_ids=[request_id], reason="x")
    with tenant_scope(officer.tenant_id):
        assert not AuditRecord.objects.filter(kind="audit.export").exists()


def test_a_running_record_is_left_out_and_named(officer: Actor, member: Actor) -> None:
    running = begin(member)
    done = generation(member)
    written = bundle.write(
        io.BytesIO(), actor=officer, request_ids=[running.request_id, done.request_id], reason="x"
    )
    assert (written.records, written.left_out) == (1, [running.request_id])


def test_while_the_witness_is_away_a_bundle_says_so(
    export: Callable[..., Exported], records: list[UUID], witness: WitnessProcess
) -> None:
    witness.kill()
    exported = export(*records)
    assert json.loads(exported.files["manifest.json"])["witnessed"] is False
    assert exported.findings() == ["The witness that you named has not signed this head."]


def test_one_records_key_opens_no_other(exported: Exported) -> None:
    lines = exported.lines()
    lines[0]["key"], lines[1]["key"] = lines[1]["key"], lines[0]["key"]
    found = exported.findings(
        exported.packed({**exported.files, "records.jsonl": jsonl(lines)}, resigned=True)
    )
    assert len([each for each in found if "does not open" in each]) == 2


def test_a_gone_record_is_proven_by_its_tombstone(
    export: Callable[..., Exported], records: list[UUID], services: Services, officer: Actor
) -> None:
    tree.extend(officer.tenant_id)
    with tenant_scope(officer.tenant_id):
        leaf = Leaf.objects.get(request_id=records[1])
        statements.state("tombstone", selectors.extent(leaf.day, leaf.keeping))
    tree.extend(officer.tenant_id)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("DELETE FROM audit_record WHERE kind = 'generation'")
        owner.execute("DELETE FROM audit_chunk")
    exported = export(records[1])
    assert exported.findings() == []
    (line,) = exported.lines()
    assert (line["state"], line["input"], line["metadata"]) == ("gone", None, None)
    (said,) = exported.lines("statements.jsonl")
    # Another count, day or place: not what the log holds.
    for change in (
        lambda line, said: said.update(text=said["text"].replace('"count":', '"count":1')),
        lambda line, said: said.update(signature=said["signature"][:-9] + "AAAAAAA=\n"),
        lambda line, said: line["told"].update(place=0),
        lambda line, said: line["told"].update(statement=str(uuid7())),
        lambda line, said: line.update(told=None),
        lambda line, said: line.update(output="It was said."),
        lambda line, said: line.update(user_id=str(uuid7())),
        lambda line, said: line.update(timestamp="2026-01-01T00:00:00+00:00"),
        lambda line, said: line.update(state="open"),
        lambda line, said: line["leaf"].update(hash="00" * 32),
    ):
        (line,), (said,) = exported.lines(), exported.lines("statements.jsonl")
        change(line, said)
        files = {**exported.files, "records.jsonl": jsonl([line]), "statements.jsonl": jsonl([said])}
        assert exported.findings(exported.packed(files, resigned=True))


def test_what_is_left_of_an_erased_record_is_proven(
    export: Callable[..., Exported], records: list[UUID], services: Services, officer: Actor
) -> None:
    tree.extend(officer.tenant_id)
    with tenant_scope(officer.tenant_id):
        row = Leaf.objects.get(request_id=records[0])
        body = {
            "sequences": [[row.seq, row.seq]],
            "count": 1,
            "root": bytes(row.hash).hex(),
            "metadata": "kept",
        }
        statements.state("erasure", body)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("UPDATE audit_record SET input = '', parameters = '' WHERE id = %s", [records[0]])
        owner.execute("DELETE FROM audit_chunk WHERE request_id = %s", [records[0]])
        exported = export(records[0])
        assert exported.findings() == []
        (line,) = exported.lines()
        assert (line["state"], line["input"], line["metadata"]["record"]["kind"]) == (
            "erased",
            None,
            "generation",
        )
        # Without its name, only the place is left.
        owner.execute("UPDATE audit_record SET user_label = '' WHERE id = %s", [records[0]])
        exported = export(records[0])
        assert exported.findings() == []
        assert exported.lines()[0]["metadata"] is None


@pytest.mark.parametrize(
    "alter",
    [
        "UPDATE audit_chunk SET sealed = overlay(sealed placing %b from 20) WHERE request_id = %s",
        "UPDATE audit_record SET input = overlay(input placing %b from 20) WHERE id = %s",
        "UPDATE audit_record SET context = overlay(context placing %b from 20) WHERE id = %s",
    ],
)
def test_an_altered_record_is_given_away_as_it_is_and_found(
    alter: str, export: Callable[..., Exported], member: Actor, services: Services
) -> None:
    """Who altered one record hinders the export of no other, nor of what proves that it was altered."""
    altered = generation(member, passages=[{"document": "a", "text": "b"}]).request_id
    other = generation(member).request_id
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute(alter, [b"\x00\x01\x02\x03", altered])
    exported = export(altered, other)
    one, two = exported.lines()
    assert (one["request_id"], one["input"], two["state"]) == (str(altered), None, "open")
    assert exported.findings() == [
        f"The record 1 ('{altered}'): a ciphertext was altered, added or removed.",
    ]


def test_an_older_head_is_noticed(
    export: Callable[..., Exported], records: list[UUID], member: Actor
) -> None:
    old = export(*records)
    generation(member)
    new = export(*records)
    replayed = {**new.files, "checkpoint.txt": old.files["checkpoint.txt"]}
    assert any("older one" in each for each in new.findings(new.packed(replayed)))
    assert new.findings(new.packed(replayed, resigned=True))
    # A whole bundle of before is what it was; who knows a newer head, or since when to expect it, sees its age.
    known = custos_verify.Head.parse(custos_verify.note_from(new.files["checkpoint.txt"].decode())[0])
    assert old.findings() == []
    kept = custos_verify.Head.parse(custos_verify.note_from(old.files["checkpoint.txt"].decode())[0])
    with tenant_scope(new.tenant_id):
        proof = selectors.continuation(kept.size, known.size)
    assert new.findings(known=kept) == new.findings(known=kept, continuation=proof) == []
    told = "does not lead from the head that you know"
    for forged in ([], proof[:-1], [*proof, bytes(32)], [bytes(32), *proof[1:]]):
        assert any(told in each for each in new.findings(known=kept, continuation=forged))
    other = custos_verify.Head(kept.origin, kept.size, bytes(32))
    assert any(told in each for each in new.findings(known=other, continuation=proof))
    assert any("older than the one that you know" in each for each in old.findings(known=known))
    assert any(
        "before the time" in each for each in old.findings(not_before=custos_verify.time_from("2100-01-01"))
    )


def test_a_record_of_another_tenant_does_not_fit_in(
    export: Callable[..., Exported], exported: Exported, north: Company, tmp_path: Path
) -> None:
    handle = generation(north.actor(north.member))
    file = io.BytesIO()
    bundle.write(file, actor=north.actor(north.officer), request_ids=[handle.request_id], reason="x")
    other = Exported(north.tenant.pk, file.getvalue(), tmp_path / "other.zip")
    assert other.findings() == []
    lines = [*exported.lines(), *other.lines()]
    files = {
        **exported.files,
        "records.jsonl": jsonl(lines),
        "sealed.bin": exported.files["sealed.bin"] + other.files["sealed.bin"],
    }
    found = exported.findings(exported.packed(files, resigned=True))
    assert any("not in the log" in each for each in found) and any(
        "another tenant's" in each for each in found
    )
    # And a whole bundle under another tenant's key is of another log.
    other.key = exported.key
    assert other.findings()


def test_a_key_of_somebody_else_proves_nothing(exported: Exported) -> None:
    stranger = Signer(signing.origin(exported.tenant_id), 1, bytes(32)).verifier
    exported.key = str(Verifier(stranger.name, stranger.kind, stranger.key))
    assert exported.findings()
    exported.key, exported.witness = (
        str(signing.verifier(exported.tenant_id)),
        str(Signer("w", 4, bytes(32)).verifier),
    )
    assert exported.findings() == ["The witness that you named has not signed this head."]


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


# Tampering

Files = dict[str, bytes]


def _edit_text(exported: Exported, chance: random.Random) -> Files:
    lines = exported.lines()
    line = chance.choice(lines)
    name = chance.choice(("input", "output", "parameters", "passages", "user_id", "timestamp", "request_id"))
    line[name] = chance.choice(["other", None, [], 1, {"role": "user"}, str(uuid7())])
    return {**exported.files, "records.jsonl": jsonl(lines)}


def _edit_metadata(exported: Exported, chance: random.Random) -> Files:
    lines = exported.lines()
    said = chance.choice(lines)["metadata"]
    part = said[chance.choice(("record", "completion"))]
    name = chance.choice(sorted(part))
    part[name] = chance.choice(["other", 12345, None if part[name] is not None else "x", True])
    return {**exported.files, "records.jsonl": jsonl(lines)}


def _edit_ciphertext(exported: Exported, chance: random.Random) -> Files:
    sealed = bytearray(exported.files["sealed.bin"])
    sealed[chance.randrange(len(sealed))] ^= 1 << chance.randrange(8)
    return {**exported.files, "sealed.bin": bytes(sealed)}


def _delete(exported: Exported, chance: random.Random) -> Files:
    lines = exported.lines()
    del lines[chance.randrange(len(lines))]
    return {**exported.files, "records.jsonl": jsonl(lines)}


def _insert(exported: Exported, chance: random.Random) -> Files:
    lines = exported.lines()
    line = json.loads(json.dumps(chance.choice(lines)))
    line["request_id"] = line["metadata"]["record"]["id"] = str(uuid7())
    lines.insert(chance.randrange(len(lines) + 1), line)
    return {**exported.files, "records.jsonl": jsonl(lines)}


def _reorder(exported: Exported, chance: random.Random) -> Files:
    lines = exported.lines()
    one, other = chance.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return {**exported.files, "records.jsonl": jsonl(lines)}


def _truncate(exported: Exported, chance: random.Random) -> Files:
    name = chance.choice(("records.jsonl", "sealed.bin"))
    content = exported.files[name]
    return {**exported.files, name: content[: chance.randrange(len(content))]}


def _forge(exported: Exported, chance: random.Random) -> Files:
    """A record that never was, all consistent in itself, at the end of the log."""
    lines = exported.lines()
    line = json.loads(json.dumps(lines[-1]))
    line["metadata"]["record"]["id"] = line["request_id"] = str(uuid7())
    data = custos_verify.canonical(line["metadata"]) + bytes.fromhex(line["ciphertext_digest"])
    line["leaf"]["hash"] = custos_verify.leaf_hash(data).hex()
    line["leaf"]["sequence"] += chance.choice((1, 2))
    own = exported.files["sealed.bin"][-line["sealed"] :]
    return {
        **exported.files,
        "records.jsonl": jsonl([*lines, line]),
        "sealed.bin": exported.files["sealed.bin"] + own,
    }


def _edit_leaf(exported: Exported, chance: random.Random) -> Files:
    lines = exported.lines()
    leaf = chance.choice(lines)["leaf"]
    match chance.randrange(3):
        case 0:
            leaf["sequence"] += chance.choice((-1, 1, 5))
        case 1:
            leaf["hash"] = chance.randbytes(32).hex()
        case _:
            place = chance.randrange(len(leaf["proof"]))
            leaf["proof"][place] = base64.b64encode(chance.randbytes(32)).decode()
    return {**exported.files, "records.jsonl": jsonl(lines)}


def _edit_head(exported: Exported, chance: random.Random) -> Files:
    note = bytearray(exported.files["checkpoint.txt"])
    text = len(bytes(note).partition(b"\n\n")[0])
    note[chance.randrange(text)] ^= 1 << chance.randrange(6)
    return {**exported.files, "checkpoint.txt": bytes(note)}


TAMPERINGS: dict[str, tuple[Callable[[Exported, random.Random], Files], bool]] = {
    # Whether it is found even when who tampers has the log's key and signs a new manifest.
    "edited text": (_edit_text, True),
    "edited metadata": (_edit_metadata, True),
    "edited ciphertext": (_edit_ciphertext, True),
    "deleted": (_delete, False),
    "inserted": (_insert, True),
    "reordered": (_reorder, True),
    "truncated": (_truncate, False),
    "forged at the end": (_forge, True),
    "another place": (_edit_leaf, True),
    "another head": (_edit_head, True),
}


# Of each kind; `make soak` asks for more.
TIMES = int(os.environ.get("CUSTOS_TAMPERINGS", "150"))


def is_change(exported: Exported, files: Files) -> bool:
    def meaning(name: str, content: bytes) -> Any:
        return content if not name.endswith("jsonl") else [json.loads(line) for line in content.splitlines()]

    try:
        return any(meaning(name, files[name]) != meaning(name, exported.files[name]) for name in files)
    except ValueError:
        return True


def tamper(exported: Exported, kind: str, times: int, chance: random.Random) -> int:
    """How many of so many tamperings of a kind are found."""
    change, is_deep = TAMPERINGS[kind]
    found = done = 0
    while done < times:
        files = change(exported, chance)
        if not is_change(exported, files):
            continue
        done += 1
        if done % 10 == 0:
            assert exported.findings() == []  # And what is left alone is not suspected.
        found += bool(exported.findings(exported.packed(files, resigned=is_deep and done % 2 == 0)))
    return found


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_every_tampering_with_a_bundle_is_found(exported: Exported, kind: str) -> None:
    assert tamper(exported, kind, TIMES, random.Random(kind)) == TIMES


def test_no_bundle_that_was_left_alone_is_suspected(
    export: Callable[..., Exported], records: list[UUID]
) -> None:
    chance = random.Random(2)
    for _ in range(15):
        exported = export(*chance.sample(records, chance.randrange(len(records) + 1)))
        assert exported.findings() == []
        assert exported.findings(exported.packed(exported.files)) == []


def test_whatever_is_not_a_bundle_is_told_so_without_a_traceback(exported: Exported) -> None:
    chance = random.Random(7)
    for number in range(400):
        data = bytearray(exported.data)
        match number % 4:
            case 0:
                for _ in range(chance.randrange(1, 20)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                del data[chance.randrange(len(data)) :]
            case 2:
                data = bytearray(chance.randbytes(chance.randrange(3000)))
            case _:
                name = chance.choice(sorted(exported.files))
                junk = chance.choice(JUNK)
                data = bytearray(
                    exported.packed(
                        {**exported.files, name: junk},
                        resigned=name not in ("manifest.json", "manifest.note"),
                    )
                )
        exported.findings(bytes(data))


JUNK = [
    b"",
    b"\n",
    b"[]\n",
    b"{}\n",
    b"null\n",
    b"[" * 100_000 + b"\n",
    b'{"a":' * 5000 + b"\n",
    b'{"request_id":{},"leaf":[]}\n',
    b'{"request_id":"x","leaf":{"sequence":true}}\n',
    b'{"request_id":1,"leaf":{"sequence":1e999}}\n',
    b"9" * 5000 + b"\n",
    b"\xff\xfe\x00",
    b"\x00" * 64,
    b"\xff" * 64,
]


def test_nothing_is_said_that_is_not_looked_at(exported: Exported) -> None:
    """Whoever reads the lines with another program sees what was verified, and nothing beside it."""
    lines = exported.files["records.jsonl"].splitlines(keepends=True)
    more = lines[0].replace(b'{"request_id"', b'{"answer":"It was said.","request_id"')
    twice = lines[0].replace(b'{"request_id"', b'{"output":"It was said.","request_id"')
    inside = lines[0].replace(b'"user_label"', b'"user_label":"somebody else","user_label"')
    for line in (more, twice, inside):
        assert line != lines[0]
        files = {**exported.files, "records.jsonl": b"".join([line, *lines[1:]])}
        assert exported.findings(exported.packed(files, resigned=True))


def test_a_zip_that_leads_elsewhere_is_told_so(exported: Exported) -> None:
    end = exported.data.rfind(b"PK\x05\x06")
    start = int.from_bytes(exported.data[end + 16 : end + 20], "little")
    astray = bytearray(exported.data)
    astray[start + 42 : start + 46] = (len(astray) - 10).to_bytes(4, "little")  # Where its first file begins.
    assert exported.findings(bytes(astray))
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", compression) as archive:
            for name, content in exported.files.items():
                archive.writestr(name, content)
        broken = packed.getvalue().replace(b"\x09\x04\x05\x00\x5d", b"\x09\x04\x05\x00\xff")
        assert exported.findings(broken)
    # A second, wide end that names another length of the table of contents than the narrow one.
    wide = b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes(28) + (1 << 62).to_bytes(8, "little") + bytes(8)
    locator = b"PK\x06\x07" + bytes(4) + end.to_bytes(8, "little") + (1).to_bytes(4, "little")
    assert exported.findings(exported.data[:end] + wide + locator + exported.data[end:])


def test_a_zip_that_unpacks_without_end_is_refused(exported: Exported, tmp_path: Path) -> None:
    bomb = {**exported.files, "sealed.bin": bytes(200 << 20)}
    assert any("far more" in each for each in exported.findings(exported.packed(bomb, resigned=True)))
    line = {**exported.files, "records.jsonl": b" " * (60 << 20)}
    assert exported.findings(exported.packed(line, resigned=True))
    crowd = {**exported.files, **{f"file-{number}": b"" for number in range(2000)}}
    assert exported.findings(exported.packed(crowd)) == [
        "This is no bundle: it has far more files than a bundle."
    ]
    twice = io.BytesIO(exported.data)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("records.jsonl", b"")
    assert exported.findings(twice.getvalue())


def test_the_command_names_what_it_finds(exported: Exported) -> None:
    files = _edit_ciphertext(exported, random.Random(1))
    exported.path.write_bytes(exported.packed(files))
    done = run(exported, str(exported.path), "--key", exported.key, "--witness", exported.witness)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FINDING: " in done.stdout and "NOT PROVEN" in done.stdout
    done = run(exported, "nothing.zip", "--key", exported.key)
    assert done.returncode == 1 and "This is no bundle" in done.stdout
    done = run(exported, "nothing.zip", "--key", "a+b+c")
    assert done.returncode == 2 and "Traceback" not in done.stderr
