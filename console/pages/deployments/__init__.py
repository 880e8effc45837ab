"""Deployments, for platform administrators: which versions run, where, how they are, and what is to become of them."""
