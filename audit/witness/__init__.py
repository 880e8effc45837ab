"""The witness: a small process that remembers the last head of every log and signs only what continues it.

    witness.py   what it answers (C2SP tlog-witness, cosignature/v1); heads.py: what it remembers, durably
    server.py    HTTP over a socket in its folder, or over a port; __main__.py: its command line

It knows no database and no Django, and has a key, a folder and a memory of its own, so that whoever rewrites the
database cannot make it forget. It may run under another account or on another machine: `python -m audit.witness
--help`.

May import: audit.tree.merkle, audit.tree.notes.
"""
