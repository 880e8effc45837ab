"""A model folder whose model says what a test wants, served by the real server and engine.

A Llama of one layer that does nothing, with one-hot embeddings: the next token depends on the last one alone, and the
output head is the table of what follows what. Each phrase of a script is one token.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = "<|end|>"
_SURE = 8.0  # Times the norm of a hidden state, 17: other tokens are out of the question at any temperature.

# A role and its text, the tools, and last the word that a script begins with.
_TEMPLATE = (
    "{# answers hold <think></think> and <tool_call></tool_call> #}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for message in messages %}[{{ message.role }}]{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}{{ call | tojson }}{% endfor %}{% endfor %}"
    "{% if tools %}<|call|>{% else %}<|answer|>{% endif %}"
)


def make_scripted_model(folder: Path, *, answer: list[str], call: list[str]) -> Path:
    """Write the model into `folder`: it says `answer`, or `call` when it is given tools.

    No phrase may come twice, in either script or both.
    """
    scripts = [["<|answer|>", *answer, END], ["<|call|>", *call, END]]
    tokenizer = _tokenizer([phrase for script in scripts for phrase in script])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    end = tokenizer.token_to_id(END)
    follows = np.full(size, end)
    for phrase, following in (pair for script in scripts for pair in pairwise(script)):
        follows[tokenizer.token_to_id(phrase)] = tokenizer.token_to_id(following)
    save_file(_weights(follows, hidden=-(-size // 8) * 8), folder / "model.safetensors")
    _write(folder / "config.json", _config(size, hidden=-(-size // 8) * 8, end=end))
    _write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "chat_template": _TEMPLATE},
    )
    return folder


def _tokenizer(phrases: list[str]) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    for phrase in dict.fromkeys(phrases):
        is_control = phrase.startswith("<|")
        tokenizer.add_tokens([AddedToken(phrase, special=is_control, normalized=False)])
    return tokenizer


def _weights(follows: np.ndarray, *, hidden: int) -> dict[str, np.ndarray]:
    size = len(follows)
    head = np.zeros((size, hidden), np.float32)
    head[follows, np.arange(size)] = _SURE
    layer = "model.layers.0."
    nothing = {
        f"{layer}self_attn.{name}_proj.weight": np.zeros((hidden, hidden), np.float32) for name in "qkvo"
    }
    shapes = {"gate": (8, hidden), "up": (8, hidden), "down": (hidden, 8)}
    nothing |= {
        f"{layer}mlp.{name}_proj.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()
    }
    norms = [f"{layer}input_layernorm", f"{layer}post_attention_layernorm", "model.norm"]
    return {
        "model.embed_tokens.weight": np.eye(size, hidden, dtype=np.float32),
        "lm_head.weight": head,
        **nothing,
        **{f"{name}.weight": np.ones(hidden, np.float32) for name in norms},
    }


def _config(size: int, *, hidden: int, end: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": size,
        "hidden_size": hidden,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": end,
        "dtype": "float32",
    }


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
