"""Who read what, and alerts on unusual reading."""
