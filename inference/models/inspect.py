"""What the files of a model say about it, read as from a stranger: `python -m inference.models.inspect FOLDER`.

Runs as a process of its own that first takes away what it does not need: memory, processor time, writing. Headers are
parsed here, by the few rules that they have, and not by the libraries that load models. The chat template is rendered
once in the sandbox that renders it later. Nothing of the model is executed. Prints one line of JSON.
"""

from __future__ import annotations

import json
import math
import re
import resource
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 20

MOST_HEADER = 64 << 20  # Bytes of a safetensors header, or of GGUF's metadata.
MOST_TENSORS = 200_000
MOST_JSON = 4 << 20
MOST_TOKENIZER_CONFIG = 16 << 20
MOST_CARD = 200_000
MOST_RENDERED = 1_000_000
_MOST_KEYS = 10_000
_MOST_STRING = 8 << 20
_MOST_ITEMS = 4_000_000

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "U8": "uint8"}

# GGUF's types of values: struct's letter of the scalars; 8 is a string and 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class Refused(Exception):
    """The files are not taken. code: as in `inference.registry.failures`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail


@dataclass(slots=True)
class Facts:
    """What is known of a model. settings: numbers of its configuration. template: whether there is one that renders."""

    format: str
    architecture: str = ""
    parameters: int | None = None
    context_tokens: int = 0
    dtype: str = ""
    licence: str = ""
    card: str = ""
    template: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def inspect(folder: Path) -> Facts:
    """The facts of a folder with safetensors or one GGUF file. Raises Refused."""
    weights = sorted(folder.glob("*.safetensors"))
    ggufs = sorted(folder.glob("*.gguf"))
    if weights:
        facts, template = _of_safetensors(folder, weights)
    elif len(ggufs) == 1:
        facts, template = _of_gguf(ggufs[0])
    else:
        raise Refused("no_weights")
    licence, facts.card = _card(folder)
    facts.licence = facts.licence or licence
    if template:
        # The parent learns from this line that what it waits for now is the template.
        print("template", flush=True)
        facts.template = bool(render(template))
    return facts


# --- Safetensors -----------------------------------------------------------------------------------


def _of_safetensors(folder: Path, weights: list[Path]) -> tuple[Facts, str]:
    facts = Facts("safetensors", parameters=0)
    bits: dict[str, int] = {}
    for path in weights:
        for dtype, count in tensors(path):
            # 64-bit integers are tables of positions, no weights.
            facts.parameters = (facts.parameters or 0) + (0 if dtype == "I64" else count)
            bits[dtype] = bits.get(dtype, 0) + count * _BITS[dtype]
    most = max(bits, key=lambda dtype: bits[dtype], default="")
    facts.dtype = _DTYPES.get(most, most.lower())
    config = _json(folder / "config.json", MOST_JSON)
    _configure(facts, config)
    return facts, _template(folder)


def tensors(path: Path) -> Iterator[tuple[str, int]]:
    """(dtype, number of elements) of each tensor of a safetensors file, whose header must describe exactly its bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(MOST_HEADER, size - 8):
            raise Refused("header", path.name)
        header = _parsed(file.read(length), path.name)
    header.pop("__metadata__", None)
    if len(header) > MOST_TENSORS:
        raise Refused("header", path.name)
    places = []
    for entry in header.values():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            count = math.prod(shape) if len(shape) <= 8 and all(_is_count(each) for each in shape) else -1
            fits = (
                _is_count(begin)
                and _is_count(end)
                and count >= 0
                and end - begin == count * _BITS[dtype] // 8
            )
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise Refused("header", path.name)
        places.append((begin, end))
        yield dtype, count
    at = 0
    for begin, end in sorted(places):
        if begin != at:
            raise Refused("header", path.name)
        at = end
    if at != size - 8 - length:
        raise Refused("header", path.name)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _configure(facts: Facts, config: dict[str, Any]) -> None:
    """What config.json says, where it says it in the usual words."""
    inner = config.get("text_config")
    read = {**config, **inner} if isinstance(inner, dict) else config
    names = config.get("architectures")
    facts.architecture = str(names[0])[:100] if isinstance(names, list) and names else ""
    facts.context_tokens = _whole(read.get("max_position_embeddings")) or 0
    wanted = {
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "vocabulary": "vocab_size",
        "window": "sliding_window",
    }
    facts.settings = {name: found for name, key in wanted.items() if (found := _whole(read.get(key)))}
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        facts.settings["quantisation"] = str(quantised.get("quant_method"))[:40]


def _whole(value: Any) -> int | None:
    return value if _is_count(value) else None


# --- GGUF ------------------------------------------------------------------------------------------


class _Reader:
    """GGUF's metadata, of which no more than MOST_HEADER bytes are read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self._left = file, name, MOST_HEADER

    def take(self, count: int) -> bytes:
        self._left -= count
        found = self._file.read(count) if count >= 0 and self._left >= 0 else b""
        if len(found) != count:
            raise Refused("header", self._name)
        return found

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]

    def count(self, most: int) -> int:
        found = self.number("Q")
        if found > most:
            raise Refused("header", self._name)
        return found

    def text(self) -> str:
        return self.take(self.count(_MOST_STRING)).decode("utf-8", "replace")

    def value(self) -> Any:
        """A scalar or a text; of an array, which nobody needs, only its length."""
        kind = self.number("I")
        if kind != _ARRAY:
            return self._one(kind)
        inner, length = self.number("I"), self.count(_MOST_ITEMS)
        if inner == _STRING:
            for _ in range(length):
                self.text()
        elif inner in _SCALARS:
            self.take(length * struct.calcsize(f"<{_SCALARS[inner]}"))
        else:
            raise Refused("header", self._name)
        return length

    def _one(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind not in _SCALARS:
            raise Refused("header", self._name)
        return self.number(_SCALARS[kind])


def _of_gguf(path: Path) -> tuple[Facts, str]:
    with path.open("rb") as file:
        reader = _Reader(file, path.name)
        if reader.take(4) != b"GGUF" or reader.number("I") not in (2, 3):
            raise Refused("header", path.name)
        num_tensors, num_keys = reader.count(MOST_TENSORS), reader.count(_MOST_KEYS)
        found = {reader.text(): reader.value() for _ in range(num_keys)}
        parameters, size = 0, path.stat().st_size
        for _ in range(num_tensors):
            reader.text()
            dimensions = reader.number("I")
            shape = [reader.count(1 << 53) for _ in range(dimensions if dimensions <= 8 else 0)]
            reader.number("I")
            if dimensions > 8 or reader.number("Q") >= size:
                raise Refused("header", path.name)
            parameters += math.prod(shape)
    architecture = str(found.get("general.architecture", ""))[:100]
    wanted = {
        "layers": f"{architecture}.block_count",
        "width": f"{architecture}.embedding_length",
        "heads": f"{architecture}.attention.head_count",
        "kv_heads": f"{architecture}.attention.head_count_kv",
        "vocabulary": "tokenizer.ggml.tokens",
    }
    template = found.get("tokenizer.chat_template")
    facts = Facts(
        "gguf",
        architecture=architecture,
        parameters=parameters,
        context_tokens=_whole(found.get(f"{architecture}.context_length")) or 0,
        dtype="gguf",
        licence=str(found.get("general.license", ""))[:100],
        settings={name: count for name, key in wanted.items() if (count := _whole(found.get(key)))},
    )
    return facts, template if isinstance(template, str) else ""


# --- Texts -----------------------------------------------------------------------------------------


def _json(path: Path, most: int) -> dict[str, Any]:
    if not path.is_file():
        raise Refused("missing", path.name)
    if path.stat().st_size > most:
        raise Refused("too_large", path.name)
    return _parsed(path.read_bytes(), path.name)


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused("header", name) from None
    if not isinstance(found, dict):
        raise Refused("header", name)
    return found


def _template(folder: Path) -> str:
    """The template's text; of several, the default one. "" where there is none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        if file.stat().st_size > MOST_JSON:
            raise Refused("too_large", file.name)
        return file.read_text(encoding="utf-8", errors="replace")
    if not (folder / "tokenizer_config.json").is_file():
        return ""
    found = _json(folder / "tokenizer_config.json", MOST_TOKENIZER_CONFIG).get("chat_template")
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def render(template: str) -> str:
    """A short conversation by the template, in transformers' sandbox. Raises Refused; "" where it takes none such."""
    from jinja2.exceptions import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    conversation = [{"role": "user", "content": "Hello"}]
    try:
        found = render_jinja_template(
            [conversation], chat_template=template, add_generation_prompt=True, bos_token="", eos_token=""
        )[0]
        rendered = str(found[0])
    except Exception as error:
        if type(error) is TemplateError:
            return ""  # What a template's own raise_exception("…") gives.
        raise Refused("template", type(error).__name__) from None
    if len(rendered) > MOST_RENDERED:
        raise Refused("template", "too long")
    return rendered


def _card(folder: Path) -> tuple[str, str]:
    """(licence, the model card without the block of fields before it)."""
    file = folder / "README.md"
    if not file.is_file() or file.is_symlink():
        return "", ""
    with file.open(encoding="utf-8", errors="replace") as opened:
        text = opened.read(MOST_CARD).replace("\x00", "")
    licence = ""
    if text.startswith("---\n"):
        block, _end, text = text[4:].partition("\n---")
        if found := re.search(r"^license:[ \t]*['\"]?([\w. +-]{1,100})", block, re.MULTILINE):
            licence = found[1].strip()
    return licence, text.strip()


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> int:
    """0: facts were printed. 1: the files are refused, and why was printed."""
    _confine()
    try:
        answer: dict[str, Any] = {"facts": asdict(inspect(Path(arguments[0])))}
    except Refused as refused:
        answer = {"refused": refused.code, "detail": refused.detail}
    except (OSError, MemoryError, struct.error) as error:
        answer = {"refused": "header", "detail": type(error).__name__}
    print(json.dumps(answer), flush=True)
    return 0 if "facts" in answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
