"""Who read what, and alerts on unusual reading.

    selectors.py   openings, searches and exports, with their reasons; each reader's figures
    rules.py       what is unusual, as pure functions of a reader's last day; thresholds that a tenant changes
    watch.py       the worker's look at what was read since the last one
    alerts.py      the alerts: for officers, never for the reader concerned; acknowledged by another person
    access.py      who may see which

A reader's reasons are sealed. The worker opens them to compare them and keeps nothing of them; people see those of
others only by an opening of its own, which is recorded (selectors.with_reasons).
"""
