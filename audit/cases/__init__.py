"""Cases: what belongs together, who works on it, and the report at the end. Invisible to everybody else."""
