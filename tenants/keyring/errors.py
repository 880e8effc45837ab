"""What goes wrong with keys, and what it means for the content under them."""


class Tampered(Exception):
    """A ciphertext does not belong where it was found, or was altered."""


class KeyDestroyed(Exception):
    """The key of this content is gone, as under retention; the content cannot be read any more."""


class KeysUnavailable(Exception):
    """The key provider does not answer or refuses. Nothing is lost; nothing can be sealed or opened until it does."""
