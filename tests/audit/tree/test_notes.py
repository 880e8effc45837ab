"""Signed notes, checkpoints and cosignatures, against the examples that others published."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.tree.notes import (
    COSIGNATURE,
    ED25519,
    BadNote,
    Checkpoint,
    Note,
    Signer,
    Verifier,
    signed,
)

LOG = Signer("custos.example/one", ED25519, bytes(range(32)))
WITNESS = Signer("witness.example", COSIGNATURE, bytes(range(1, 33)))
HEAD = Checkpoint("custos.example/one", 7, bytes(32))

# From the tests of Go's golang.org/x/mod/sumdb/note: a key, and a note that it signed.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_signed_elsewhere_is_accepted() -> None:
    verifier = Verifier.parse(GO_KEY)
    assert str(verifier) == GO_KEY
    assert Note.parse(GO_NOTE).signed_by(verifier)


def test_a_head_is_read_as_it_was_written() -> None:
    note = Note.parse(signed(str(HEAD), [LOG.line(str(HEAD)), WITNESS.line(str(HEAD), time=1_700_000_000)]))
    assert Checkpoint.parse(note.text) == HEAD
    assert note.signed_by(LOG.verifier)
    cosignature = note.signed_by(WITNESS.verifier)
    assert cosignature and cosignature.time == 1_700_000_000
    assert Verifier.parse(str(WITNESS.verifier)) == WITNESS.verifier


def test_another_key_of_the_same_name_has_not_signed() -> None:
    note = Note.parse(signed(str(HEAD), [LOG.line(str(HEAD))]))
    assert note.signed_by(Signer(LOG.name, ED25519, bytes(32)).verifier) is None
    assert note.signed_by(Verifier("other", ED25519, LOG.verifier.key)) is None


def test_a_witness_signs_a_time_and_a_log_does_not() -> None:
    """So a signature of one can never be passed off as the other's, even under one key."""
    both = Signer(LOG.name, COSIGNATURE, LOG.key)
    line = both.line(str(HEAD), time=5)
    assert Note.parse(signed(str(HEAD), [line])).signed_by(LOG.verifier) is None


@given(st.integers(0, 400), st.integers(1, 255))
def test_no_byte_of_a_signed_head_can_be_changed(place: int, change: int) -> None:
    note = signed(str(HEAD), [LOG.line(str(HEAD)), WITNESS.line(str(HEAD), time=5)]).encode()
    place %= len(note)
    altered = bytearray(note)
    altered[place] ^= change
    try:
        found = Note.parse(altered.decode())
    except (BadNote, UnicodeDecodeError):
        return
    assert not (
        found.signed_by(LOG.verifier)
        and found.signed_by(WITNESS.verifier)
        and Checkpoint.parse(found.text) != HEAD
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a\n\n",
        "a\n\nb\n",
        "a\n\n— x\n",
        "a\n\n— x eA==\n",
        "a\n\n— x !\n",
        "a\x00\n\n— x AAAAAAA=\n",
        "\ud800",
    ],
)
def test_what_is_no_note_is_told_so(text: str) -> None:
    with pytest.raises(BadNote):
        Note.parse(text)


@pytest.mark.parametrize("size", ["", "-1", "01", "1 ", "1e3", "１", "9" * 20])
def test_a_size_is_a_plain_number(size: str) -> None:
    with pytest.raises(BadNote):
        Checkpoint.parse(f"a\n{size}\n{'A' * 43}=\n")


def test_random_text_is_never_more_than_bad() -> None:
    chance = random.Random(3)
    for _ in range(3000):
        text = "".join(chance.choice("a—+/= \n0A\x01é") for _ in range(chance.randrange(60)))
        for parse in (Note.parse, Checkpoint.parse, Verifier.parse):
            try:
                parse(text)
            except BadNote:
                pass
