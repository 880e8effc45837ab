"""Flags, queues, samples, assignments and decisions."""
