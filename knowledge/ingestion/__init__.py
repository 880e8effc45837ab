"""From a file to what is found: read, cut, indexed by its words, then embedded. In the worker, one version after the other.

queue.py     what waits, whose turn it is, and the lease of whoever works
work.py      the work itself
failures.py  why a file failed, in words
tasks.py     what Celery runs
"""
