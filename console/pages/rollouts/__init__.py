"""Rollouts, for platform administrators: a candidate beside the deployment it may replace, and how the two compare."""
