"""Pages for signing in, for one's account, and for the administration of sign-in."""
