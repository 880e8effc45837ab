"""Monitoring for platform administrators: figures, alerts, rules, who is told. Numbers and names; nobody's content."""
