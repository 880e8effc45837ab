"""The proof: a hash tree a tenant over all closed records, its signed heads, witness and export bundles.

    merkle.py        trees, proofs and their verification (RFC 6962); notes.py: signed heads (C2SP); both import no Django
    statements.py    what is stated for ever beside records: tombstones, holds, erasures
    sequencer.py     gives what is closed its place, and signs heads
    stored.py        hashes of subtrees as they are kept, so that proofs over millions of leaves read little
    signing.py       the log's key and name
    anchors.py       where heads are laid down out of the database's reach: the witness
    selectors.py     a record's place and proof, the state of the log
    verification.py  everything checked against everything, from the rows up
    bundle.py        records handed out with all that proves them

May import: audit (but nothing built on the tree), tenants.
"""

from uuid import UUID


def extend(tenant_id: UUID) -> None:
    """Give a tenant's closed records their places, sign a head when it is time, and hand it to the witness."""
    # Not at the top: the witness imports this package's modules and knows no Django.
    from audit.tree.sequencer import extend as extend_log

    extend_log(tenant_id)
