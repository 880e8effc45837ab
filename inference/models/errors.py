"""Why a model cannot be used; each message says what to do about it."""


class ModelError(Exception):
    """The model cannot be served."""


class ModelNotFound(ModelError):
    """Nothing is at the place named."""


class UnsafeWeights(ModelError):
    """Only pickled weights are there; unpickling runs code, so they are refused."""


class DigestMismatch(ModelError):
    """The files are not the ones seen before, or not the ones their package lists."""


class UnsupportedModel(ModelError):
    """The engine cannot run this kind of model."""
