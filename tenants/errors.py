"""What a service raises when it will not do what was asked."""


class Refused(Exception):
    """Bad input, or a rule that would be broken; nothing was changed.

    code: stable, for programs. message: translated, says what to do. field: the input at fault, or None.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
