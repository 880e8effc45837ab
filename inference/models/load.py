"""Bring a verified model folder into memory. Imports torch and transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from inference.models.errors import ModelError, UnsupportedModel
from inference.models.folder import ModelFolder
from inference.models.manifest import Manifest

# Layers whose whole history lies in keys and values, which the engine stores. Recurrent and
# linear-attention layers keep other state.
_SUPPORTED_LAYERS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run. `eos_token_ids` end an answer; `max_context` is in tokens."""

    model: PreTrainedModel
    tokenizer: Any
    path: Path
    manifest: Manifest
    eos_token_ids: frozenset[int]
    max_context: int
    default_temperature: float
    default_top_p: float
    default_top_k: int


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    folder: ModelFolder, *, dtype: torch.dtype, device: torch.device, attention: str = "sdpa"
) -> LoadedModel:
    """Load weights and tokenizer; `attention` is what transformers calls an attention implementation.

    Raises ModelError when transformers cannot or the engine could not.
    """
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder.path,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"transformers cannot load {folder.path}: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedModel(f"{folder.path} has no tokenizer.json that the `tokenizers` library can read.")
    config = model.config.get_text_config(decoder=True)
    unknown = set(getattr(config, "layer_types", None) or ()) - _SUPPORTED_LAYERS
    if unknown:
        raise UnsupportedModel(
            f"{folder.path} has layers the engine cannot run: {', '.join(sorted(unknown))}."
        )
    torch.nn.Module.to(model, device)  # As `model.to(device)`, whose types transformers' wrapper hides.
    defaults = model.generation_config
    sampled = bool(defaults.do_sample)
    return LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        path=folder.path,
        manifest=folder.manifest,
        eos_token_ids=_eos_token_ids(defaults.eos_token_id, tokenizer.eos_token_id),
        max_context=int(getattr(config, "max_position_embeddings", 0) or 2048),
        default_temperature=_or(defaults.temperature if sampled else None, 1.0),
        default_top_p=_or(defaults.top_p if sampled else None, 1.0),
        default_top_k=int(_or(defaults.top_k if sampled else None, 0)),
    )


def load_encoder(folder: ModelFolder, *, device: torch.device) -> PreTrainedModel:
    """Load an encoder such as MiniLM, in float32: it is small, and its vectors are stored and compared.

    Raises ModelError.
    """
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(
            folder.path,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"transformers cannot load {folder.path}: {error}") from error
    torch.nn.Module.to(model, device)
    return model.eval()


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _eos_token_ids(*values: int | list[int] | None) -> frozenset[int]:
    ids: set[int] = set()
    for value in values:
        if value is not None:
            ids.update(value if isinstance(value, list) else [value])
    return frozenset(ids)
