"""Measurements behind the figures in the documentation. Each is a command: `python -m benchmarks.<name>`."""
