"""No request uses more tokens than are reserved for it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.models.folder import prepare
from inference.models.source import parse_source
from tenants.quotas.estimates import likely_prompt_tokens, most_tokens
from tests.support.services import MODELS_DIR

CONTEXT = 2_048
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def chat(content: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **fields}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Of a model that Custos serves, with its chat template."""
    from transformers import AutoTokenizer

    folder = prepare(parse_source("smollm2"), MODELS_DIR)
    return AutoTokenizer.from_pretrained(folder.path, local_files_only=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_a_prompt_has_no_more_tokens_than_the_estimate(tokenizer: Any, contents: list[str]) -> None:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    templated = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    asked = {"messages": messages, "max_tokens": 1}
    assert len(tokenizer(templated).input_ids) < most_tokens(asked, context_tokens=10**6)
    for content in contents:
        assert (
            len(tokenizer(content).input_ids)
            <= most_tokens({"prompt": content, "max_tokens": 1}, context_tokens=10**6) - 1
        )


@pytest.mark.parametrize(
    ("request_", "most"),
    [
        (chat("x", max_tokens=10), 10 + 256 + 34),
        (chat("x", max_tokens=10, n=3), 30 + 256 + 34),
        (chat("x", max_tokens=5, max_completion_tokens=10), 10 + 256 + 34),
        (chat("x"), CONTEXT),
        (chat("x", n=3), 3 * CONTEXT),
        (chat("x" * 10_000, max_tokens=10), CONTEXT),
        (chat("x", max_tokens=10, tools=[TOOL]), 10 + 256 + 34 + 1024 + len(str(TOOL)) + 2),
        ({"prompt": "x" * 92, "max_tokens": 10}, 110),
        ({"prompt": ["x" * 92, "y" * 92], "max_tokens": 10, "n": 2}, 240),
        ({"prompt": [1, 2, 3], "max_tokens": 10}, 21),
        ({"input": ["x" * 92, "y" * 10_000]}, 100 + CONTEXT),
    ],
)
def test_the_most_a_request_can_need(request_: dict[str, Any], most: int) -> None:
    assert most_tokens(request_, context_tokens=CONTEXT) == most


def test_of_an_answer_cut_off_what_was_likely_read_is_counted() -> None:
    assert likely_prompt_tokens({"prompt": "x" * 40}, context_tokens=CONTEXT) == 13
    assert likely_prompt_tokens(chat("x" * 100_000), context_tokens=CONTEXT) == CONTEXT
