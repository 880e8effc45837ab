"""The process that makes deployments what they are wanted to be: `manage.py deployments run`.

    loop.py        what it does until it is stopped; of several such processes one works
    reconciler.py  compares what is wanted with what runs, each second, and starts, drains and ends instances
    process.py     one inference process: how it is started, its log, its end
    watching.py    how the servers of others are, looked at beside, so that nobody waits for them

All it knows is in the database, and its children end with it: whenever it starts anew, it starts what is wanted.
"""
