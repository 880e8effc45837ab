from tests.api.conftest import key
from tests.chat.fixtures import browser, inference_here, live_acme, live_north, stack

__all__ = ["browser", "inference_here", "key", "live_acme", "live_north", "stack"]
