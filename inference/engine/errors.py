"""Why the engine refuses or fails a request. `code` is stable; messages say what to do next."""


class EngineError(Exception):
    """This request failed; others go on."""

    code = "engine_error"


class QueueFull(EngineError):
    """Too many requests wait already. `retry_after` is in seconds."""

    code = "queue_full"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many requests are waiting; try again in {retry_after} s.")
        self.retry_after = retry_after


class ContextLengthExceeded(EngineError):
    """Prompt and answer together do not fit the model's context."""

    code = "context_length_exceeded"


class InvalidPrompt(EngineError):
    """The prompt is empty or holds token ids the model does not have."""

    code = "invalid_prompt"


class OutOfMemory(EngineError):
    """This request did not fit in memory even when run alone."""

    code = "out_of_memory"

    def __init__(self) -> None:
        super().__init__("The model ran out of memory on this request; shorten it or try later.")


class StepFailed(EngineError):
    """Computing this request's next token failed."""

    code = "engine_error"


class EngineStopped(EngineError):
    """The engine is shutting down, or has died; nothing more will be generated."""

    code = "engine_stopped"

    def __init__(self, message: str = "The inference service is stopping; try again shortly.") -> None:
        super().__init__(message)
