"""What the installation measures of itself, kept for 30 days, and the alerts on it. Of the platform, so of no tenant.

    catalogue.py   what is kept, and the series that can be read from it; the one table to change
    sources.py     what web and inference processes, and the machine, tell now
    sampler.py     from there into PostgreSQL every five seconds; a row a minute for longer
    reading.py     series as points over time, from PostgreSQL or from Prometheus
    models.py      samples, rules, alerts, silences, channels, notices
    rules.py       services: rules, silences, acknowledgements, channels
    evaluation.py  rules held against samples: pending, firing, resolved
    preview.py     what a rule would have done in the last day
    notices.py     telling people and programs; webhooks.py: the only way out of the house
    loop.py        the process `manage.py monitor`, which does all this by itself

The process is its own, beside worker and web, because whoever watches them must not stop with them.
May import: console, audit, tenants.
"""
