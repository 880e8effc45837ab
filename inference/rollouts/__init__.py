"""Bringing another deployment in beside one that serves: in the shadow, for a share of requests, then for all or not at all."""
