"""How long records are kept, how they go, and what holds them."""
