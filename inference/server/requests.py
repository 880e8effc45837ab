"""From a request on the wire to what the engine is asked for, and how its answers are to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inference.engine.errors import ContextLengthExceeded
from inference.engine.request import Request, SamplingParameters
from inference.models.template import NO_PARAMETERS
from inference.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    invalid_request,
    model_not_found,
)
from inference.server.choices import Reading
from inference.server.tool_calls import BARE, HERMES, ToolFormat, format_of

if TYPE_CHECKING:
    from inference.engine.grammar import Grammar
    from inference.server.service import _Ready

Wire = ChatCompletionRequest | CompletionRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """`requests` holds `per_prompt` requests for each prompt, prompt by prompt: one a choice."""

    requests: list[Request]
    per_prompt: int
    reading: Reading


def plan(wire: Wire, ready: _Ready, *, request_id: str, tenant: str, priority: int) -> Plan:
    """Tokenise and fill in defaults; takes up to a second on long prompts, and more where it `needs_grammar`, so call it
    in a thread.

    A seed s gives choice i the seed s + i, so that choices differ and yet can be had again.
    Raises ApiError and ContextLengthExceeded.
    """
    if wire.model != ready.name:
        raise model_not_found(wire.model)
    if isinstance(wire, ChatCompletionRequest):
        prompts, grammar, reading = _plan_chat(wire, ready)
    else:
        prompts, grammar, reading = _encode_prompts(wire, ready), None, Reading()
    requests: list[Request] = []
    for prompt in prompts:
        sampling = _sampling(wire, len(prompt), ready, grammar, reading)
        for choice in range(wire.choices):
            seed = None if sampling.seed is None else sampling.seed + choice
            requests.append(
                Request(
                    id=f"{request_id}-{len(requests)}" if requests else request_id,
                    prompt_token_ids=tuple(prompt),
                    sampling=replace(sampling, seed=seed),
                    tenant=tenant,
                    priority=priority,
                    cache_salt=tenant,
                )
            )
    return Plan(requests, wire.choices, reading)


def _encode_prompts(wire: CompletionRequest, ready: _Ready) -> list[list[int]]:
    return [
        ready.template.encode_text(prompt) if isinstance(prompt, str) else prompt for prompt in wire.prompts
    ]


# --- Chat --------------------------------------------------------------------------------------


def _plan_chat(wire: ChatCompletionRequest, ready: _Ready) -> tuple[list[list[int]], Grammar | None, Reading]:
    template = ready.template
    tools = [tool.model_dump() for tool in wire.usable_tools]
    if tools and not template.takes_tools:
        raise invalid_request(
            "unsupported_parameter",
            f"tools: the model {ready.name} cannot call tools; leave them out.",
            "tools",
        )
    prompt = template.encode_chat([message.model_dump() for message in wire.messages], tools)
    opened = template.opens_thinking(prompt)
    grammar, format = _constraint(wire, ready, format_of(template.source))
    if grammar is not None and opened:
        prompt += template.encode_text(
            "\n</think>\n\n", special=False
        )  # The grammar leaves no room to think.
        opened = False
    return (
        [prompt],
        grammar,
        Reading(
            opens_thinking=opened if template.thinks else None,
            tool_format=format if tools else None,
            tool_names=frozenset(tool["function"]["name"] for tool in tools),
            single_call=wire.parallel_tool_calls is False and grammar is None,  # A grammar sees to it itself.
        ),
    )


def needs_grammar(wire: Wire) -> bool:
    """Whether `plan` may have to compile a grammar, which can take seconds."""
    return isinstance(wire, ChatCompletionRequest) and (wire.wants_json or wire.must_call)


def _constraint(
    wire: ChatCompletionRequest, ready: _Ready, format: ToolFormat
) -> tuple[Grammar | None, ToolFormat]:
    """What the answer must keep to (None: nothing), and the format in which its calls then come."""
    if not needs_grammar(wire):
        return None, format
    from inference.engine.grammar import InvalidSchema, Tool, ToolMarkers, UnsupportedTokenizer

    try:
        grammars = ready.grammars
        if wire.must_call:
            tools = [
                Tool(tool.function.name, {"type": "object", **(tool.function.parameters or NO_PARAMETERS)})
                for tool in wire.usable_tools
            ]
            # Between Hermes's markers for models that know them, as plain JSON for all others.
            markers = ToolMarkers() if format is HERMES else ToolMarkers("", "")
            parallel = wire.parallel_tool_calls is not False
            grammar = grammars.tool_calls(
                tools, required=True, name=wire.named_tool, parallel=parallel, markers=markers
            )
            return grammar, HERMES if format is HERMES else BARE
        wanted = wire.response_format.json_schema if wire.response_format else None
        return grammars.json_object() if wanted is None else grammars.json_schema(wanted.json_schema), format
    except (InvalidSchema, UnsupportedTokenizer) as error:
        field = "tools" if wire.must_call else "response_format"
        raise invalid_request(error.code, f"{field}: {error}", field) from error


# --- Sampling ----------------------------------------------------------------------------------


def _sampling(
    wire: Wire, prompt_tokens: int, ready: _Ready, grammar: Grammar | None, reading: Reading
) -> SamplingParameters:
    """The request's wishes, and the model's own defaults where it has none."""
    room = ready.engine.limits.max_context - prompt_tokens
    if room < 1:
        raise ContextLengthExceeded(
            f"The prompt has {prompt_tokens} tokens, but the model's context holds "
            f"{ready.engine.limits.max_context}. Shorten the conversation."
        )
    max_tokens = _given(wire.token_limit, room)
    if _given(wire.min_tokens, 0) > max_tokens:
        raise invalid_request(
            "invalid_value",
            f"min_tokens: the context has room for {max_tokens} more tokens only.",
            "min_tokens",
        )
    # The engine ends a single call where it ends, instead of us dropping what the model says after it.
    stop_call = reading.single_call and reading.tool_format is not None and reading.tool_format.call_end
    return SamplingParameters(
        max_tokens=max_tokens,
        temperature=_given(wire.temperature, ready.loaded.default_temperature),
        top_p=_given(wire.top_p, ready.loaded.default_top_p),
        top_k=_given(wire.top_k, ready.loaded.default_top_k),
        min_p=_given(wire.min_p, 0.0),
        seed=wire.seed,
        stop=(*wire.stop, *([stop_call] if stop_call else [])),
        stop_token_ids=frozenset(wire.stop_token_ids or ()),
        min_tokens=_given(wire.min_tokens, 0),
        ignore_eos=bool(wire.ignore_eos),
        frequency_penalty=_given(wire.frequency_penalty, 0.0),
        presence_penalty=_given(wire.presence_penalty, 0.0),
        repetition_penalty=_given(wire.repetition_penalty, 1.0),
        logit_bias=_logit_bias(wire, len(ready.loaded.tokenizer)),
        logprobs=wire.num_logprobs,
        grammar=grammar,
    )


def _given(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _logit_bias(wire: Wire, vocabulary: int) -> tuple[tuple[int, float], ...]:
    biases = tuple((int(token), bias) for token, bias in (wire.logit_bias or {}).items())
    if any(token >= vocabulary for token, _ in biases):
        raise invalid_request(
            "invalid_value", f"logit_bias: the model has token ids 0 to {vocabulary - 1} only.", "logit_bias"
        )
    return biases
