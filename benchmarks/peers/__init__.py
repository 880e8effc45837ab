"""Other inference servers, to measure against. Each lives in an environment of its own under var/peers/."""
