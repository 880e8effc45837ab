"""Whatever takes the right to an answer away, the last token comes within a second: one trial of each cause.

`python -m benchmarks.revocation` runs hundreds of them.
"""

import pytest

from benchmarks.revocation.trials import CAUSES, LIMIT_S, Cause, Trial
from tests.chat.stack import Stack
from tests.conftest import Company


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
async def test_the_answer_ends_within_a_second(live_acme: Company, stack: Stack, cause: Cause) -> None:
    assert await Trial(stack.web.url, cause, name="a-trial").run() <= LIMIT_S
