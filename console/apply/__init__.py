"""`manage.py apply`: tenants as a file says they are to be.

    document.py  the file: YAML, checked, and the line on which each thing stands
    state.py     a tenant as it is, and the difference between two states
    ensure.py    brings a tenant to what the file says, through the services that the pages use

The plan is a rehearsal: everything is carried out in a transaction that is undone, so a plan names just what the services
would do, and whatever they refuse is told before anything is asked. Applying does the same once more and keeps it,
unless the plan has become another meanwhile.

May import: inference.registry (routes of new tenants), tenants. Runs as the application's role, within the walls of each
tenant.
"""
