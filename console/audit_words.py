"""What verification says, in words: for pages, commands and reports alike."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from audit.tree.anchors import Refusal
from audit.tree.verification import Code, WitnessState

_FINDINGS: dict[Code, str | Promise] = {
    Code.ALTERED: _("Entry %(seq)s: the record was altered after it was closed."),
    Code.MISSING: _("Entry %(seq)s: the record is missing, and no tombstone says why."),
    Code.UNPLACED: _("A closed record is not in the log after more than a minute."),
    Code.CUT: _("Entry %(seq)s is missing: the log was cut or has a gap."),
    Code.KEPT_HASH: _("Entry %(seq)s: a hash kept for proofs is wrong. No record is affected by that alone."),
    Code.STATEMENT: _("Entry %(seq)s: a statement is missing, altered, or was not made by Custos."),
    Code.TOMBSTONE: _("Entry %(seq)s: a tombstone or erasure does not fit the entries that it tells of."),
    Code.SIGNATURE: _("The checkpoint of %(seq)s entries is not signed with this log's key."),
    Code.ROOT: _("The checkpoint of %(seq)s entries does not fit the entries: some were replaced."),
    Code.UNSIGNED: _("Entry %(seq)s and those after it are not covered by a checkpoint."),
    Code.WITNESS_AHEAD: _("The witness has seen %(seq)s entries; the log has fewer: it was cut."),
    Code.WITNESS_DIFFERS: _(
        "The witness's checkpoint of %(seq)s entries is not this log's: history was replaced."
    ),
    Code.WITNESS_FORGOT: _("The witness knows nothing of this log, though it signed it before."),
    Code.REFUSED: _("The witness refuses the newest checkpoint."),
}

_REFUSALS: dict[Refusal, str | Promise] = {
    Refusal.UNKNOWN_KEY: _("The witness does not know the key that signed this checkpoint."),
    Refusal.UNKNOWN_LOG: _("The witness does not know this log."),
    Refusal.REPLACED: _("The witness has seen another log of the same size: entries were replaced."),
    Refusal.ALTERED: _(
        "What the witness has seen is not the beginning of this log: entries were altered or removed."
    ),
    Refusal.CUT: _("The witness has seen more entries than the log has: it was cut."),
    Refusal.OTHER_SIGNER: _("The witness's answer is not signed with the key that we know as its."),
    Refusal.OTHER: _("The witness answered something that we do not understand."),
}

_WITNESS: dict[WitnessState, str | Promise] = {
    WitnessState.AGREES: _("The witness has seen the same log."),
    WitnessState.DIFFERS: _("The witness has seen another log."),
    WitnessState.AWAY: _("The witness did not answer."),
    WitnessState.EMPTY: _("The witness has not seen this log yet."),
}


def finding_words(code: str, seq: int | None, detail: str = "") -> str:
    """A finding as a sentence, with what is known beside it."""
    said = str(_FINDINGS[Code(code)]) % {"seq": "?" if seq is None else seq}
    if code == Code.REFUSED:
        detail = refusal_words(detail)
    return f"{said} {detail}".strip()


def refusal_words(why: str) -> str:
    """Why the witness refused a head."""
    return str(_REFUSALS[Refusal(why)])


def witness_words(state: str) -> str:
    """What the witness says."""
    return str(_WITNESS[WitnessState(state)])
