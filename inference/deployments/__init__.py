"""Deployments: which versions are to run, with what, and which instances of them do.

selectors.py   where a request to a deployment can go
"""
