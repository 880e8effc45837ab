"""The witness signs what continues the last head and nothing else, and forgets nothing."""

import base64
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings

from audit import tree
from audit.tree import anchors, merkle, selectors, signing, stored
from audit.tree.models import Anchoring, Checkpoint
from audit.tree.notes import COSIGNATURE, ED25519, Note, Signer, signed
from audit.tree.notes import Checkpoint as Head
from audit.witness.heads import Heads
from audit.witness.witness import Answer, Logs, Witness
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.audit.tree.conftest import WitnessProcess

LOG = Signer("custos.example/one", ED25519, bytes(range(32)))
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(40)]


@pytest.fixture
def heads(tmp_path: Path) -> Heads:
    return Heads(tmp_path / "heads")


@pytest.fixture
def add(heads: Heads) -> Callable[..., Answer]:
    """Lay a head before a new witness: add(old, new, leaves=…, signer=…, proof=…)."""
    clock = itertools.count(1_700_000_000)
    witness = Witness(
        Signer("w", COSIGNATURE, bytes(32)),
        Logs("custos.example", LOG.verifier.key),
        heads,
        lambda: next(clock),
    )

    def add(
        old: int,
        new: int,
        leaves: list[bytes] = LEAVES,
        signer: Signer = LOG,
        proof: list[bytes] | None = None,
        origin: str = LOG.name,
    ) -> Answer:
        head = str(Head(origin, new, merkle.root(leaves[:new])))
        if proof is None:
            proof = merkle.consistency_proof(merkle.over(leaves), min(old, new), new)
        lines = "".join(base64.b64encode(each).decode() + "\n" for each in proof)
        return witness.add_checkpoint(f"old {old}\n{lines}\n{signed(head, [signer.line(head)])}".encode())

    return add


def test_it_signs_the_first_head_and_what_continues_it(add: Callable[..., Answer]) -> None:
    verifier = Signer("w", COSIGNATURE, bytes(32)).verifier
    for old, new in ((0, 5), (5, 5), (5, 20), (20, 40)):
        answer = add(old, new)
        assert answer.status == 200
        head = str(Head(LOG.name, new, merkle.root(LEAVES[:new])))
        assert Note.parse(signed(head, [answer.text])).signed_by(verifier)


def test_it_says_which_head_it_knows(add: Callable[..., Answer]) -> None:
    add(0, 20)
    answer = add(0, 30)
    assert (answer.status, answer.text, answer.content_type) == (409, "20\n", "text/x.tlog.size")


def test_it_refuses_a_smaller_head(add: Callable[..., Answer]) -> None:
    add(0, 20)
    assert add(10, 10).status == 409
    assert add(20, 10).status == 400
    assert add(20, 21).status == 200


def test_it_refuses_another_history(add: Callable[..., Answer], heads: Heads) -> None:
    add(0, 20)
    altered = [merkle.leaf_hash(b"x"), *LEAVES[1:]]
    assert add(20, 30, leaves=altered).status == 422
    assert add(20, 20, leaves=altered).status == 409
    assert add(20, 30, proof=[]).status == 422
    kept = heads.last(LOG.name)
    assert kept == Head(LOG.name, 20, merkle.root(LEAVES[:20]))


def test_it_refuses_who_it_does_not_know(add: Callable[..., Answer], heads: Heads) -> None:
    assert add(0, 3, signer=Signer(LOG.name, ED25519, bytes(32))).status == 403
    assert add(0, 3, origin="elsewhere.example/one").status == 404
    assert add(0, 3, origin="custos.example").status == 404
    assert heads.last(LOG.name) is None


@pytest.mark.parametrize("body", [b"", b"old 1", b"old x\n\na", b"old 1\nAAAA\n\na", b"\xff", b"old 0\n\n\n"])
def test_it_says_what_is_malformed(add: Callable[..., Answer], body: bytes, heads: Heads) -> None:
    witness = Witness(Signer("w", COSIGNATURE, bytes(32)), Logs("a", bytes(32)), heads)
    assert witness.add_checkpoint(body).status == 400


def test_it_keeps_heads_whole_and_for_itself(
    add: Callable[..., Answer], heads: Heads, tmp_path: Path
) -> None:
    add(0, 20)
    assert (tmp_path / "heads").stat().st_mode & 0o77 == 0
    assert [path.name for path in (tmp_path / "heads").iterdir()] == [
        path.name for path in (tmp_path / "heads").iterdir() if not path.name.startswith(".")
    ]
    again = Heads(tmp_path / "heads")
    assert again.last(LOG.name) == heads.last(LOG.name) is not None


def extended(actor: Actor) -> None:
    generation(actor)
    tree.extend(actor.tenant_id)


@pytest.fixture
def sign_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.tree.sequencer.SIGN_LEAVES", 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("sign_every_time")
class TestTheProcess:
    def test_heads_are_witnessed(self, member: Actor, witness: WitnessProcess) -> None:
        extended(member)
        extended(member)
        verifier = anchors.witness_verifier()
        assert verifier is not None
        with tenant_scope(member.tenant_id):
            head = selectors.newest_head()
            assert head is not None and head.size == 2 and head.witnessed
            assert Note.parse(head.note).signed_by(verifier)
            assert Note.parse(head.note).signed_by(signing.verifier(member.tenant_id))
            assert selectors.alarms().unanchored_s == 0
        assert anchors.Witness().head(signing.origin(member.tenant_id)) == head.note

    def test_its_folder_and_key_are_closed_to_others(self, witness: WitnessProcess) -> None:
        for name in ("", "witness.key", "socket", "heads"):
            assert (witness.state / name).stat().st_mode & 0o77 == 0
        assert settings.AUDIT_LOG_KEY not in (witness.state / "witness.key").read_text()

    def test_while_it_is_away_heads_wait_and_are_handed_over_later(
        self, member: Actor, witness: WitnessProcess
    ) -> None:
        extended(member)
        witness.kill()
        extended(member)
        extended(member)
        with tenant_scope(member.tenant_id):
            assert selectors.alarms().unanchored_s > 0
            assert not selectors.alarms().refusals
            head = selectors.newest_head()
            assert head is not None and head.size == 1
        witness.start()
        tree.extend(member.tenant_id)
        with tenant_scope(member.tenant_id):
            head = selectors.newest_head()
            assert head is not None and head.size == 3 and head.witnessed

    def test_an_answer_that_got_lost_is_asked_for_again(
        self, member: Actor, witness: WitnessProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extended(member)
        with monkeypatch.context() as broken:
            broken.setattr(Anchoring, "save", _killed)
            with pytest.raises(KeyboardInterrupt):
                extended(member)
        tree.extend(member.tenant_id)
        with tenant_scope(member.tenant_id):
            head = selectors.newest_head()
            assert head is not None and head.size == 2 and head.witnessed

    def test_killed_again_and_again_it_forgets_and_doubles_nothing(
        self, member: Actor, witness: WitnessProcess
    ) -> None:
        for number in range(6):
            extended(member)
            if number % 2:
                witness.kill()
                extended(member)
                witness.start()
        tree.extend(member.tenant_id)
        with tenant_scope(member.tenant_id):
            assert selectors.newest_head() == selectors.newest_head(witnessed=False)
            assert stored.size() == 9
            assert not Anchoring.objects.filter(outcome=Anchoring.Outcome.REFUSED).exists()
            sizes = list(Checkpoint.objects.order_by("size").values_list("size", flat=True))
        assert sizes == list(range(1, 10))

    def test_a_second_one_does_not_start_beside_it(self, witness: WitnessProcess) -> None:
        other = WitnessProcess(witness.state)
        arguments = ["--state", str(other.state), "--log-name", "a", "--log-key", "AAAA"]
        done = subprocess.run(
            [sys.executable, "-m", "audit.witness", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and "another witness" in done.stderr

    def test_it_does_not_take_another_key_for_the_logs(self, witness: WitnessProcess) -> None:
        """Or who has the database and puts a new key in place could begin the history anew."""
        witness.kill()
        key = base64.b64encode(bytes(32)).decode()
        arguments = ["--state", str(witness.state), "--log-name", settings.AUDIT_LOG_NAME, "--log-key", key]
        done = subprocess.run(
            [sys.executable, "-m", "audit.witness", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and "another than at first" in done.stderr

    def test_what_it_signs_with_another_key_does_not_count(
        self, member: Actor, witness: WitnessProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "WITNESS_KEY", str(Signer("w", COSIGNATURE, bytes(32)).verifier))
        extended(member)
        with tenant_scope(member.tenant_id):
            assert selectors.alarms().refusals

    def test_nobody_knows_a_log_that_was_never_laid_down(self, witness: WitnessProcess) -> None:
        assert anchors.Witness().head(signing.origin(uuid4())) is None


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
