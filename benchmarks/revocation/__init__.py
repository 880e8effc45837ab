"""How long an answer goes on after the right to it was taken away: trials on the running product."""
