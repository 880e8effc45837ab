"""What the registry's tests share: a tiny model in a folder of the server, and who operates the registry."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.registry import imports
from inference.registry.models import ModelImport
from inference.registry.operators import Operator, operator
from tenants.models import User
from tests.conftest import make_user

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
Writer = Callable[..., Path]


def safetensors(shape: tuple[int, ...] = (4, 4), dtype: str = "BF16", **changes: Any) -> bytes:
    """A file of one tensor; `changes` go into its entry of the header."""
    length = 2
    for each in shape:
        length *= each
    entry = {"dtype": dtype, "shape": list(shape), "data_offsets": [0, length], **changes}
    header = json.dumps({"model.weight": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(length)


CONFIG = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096, "num_hidden_layers": 2}


@pytest.fixture
def models_dir(tmp_path: Path, settings: Any) -> Path:
    """CUSTOS_MODELS_DIR, empty, and a store of its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    settings.MODELS_DIR, settings.VAR_DIR = folder, tmp_path / "var"
    return folder


@pytest.fixture
def write_model(models_dir: Path) -> Writer:
    """Writes a model into a folder: name, then what differs, None for what is left out."""

    def write(name: str = "tiny", **files: bytes | str | None) -> Path:
        folder = models_dir / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        content: dict[str, bytes | str | None] = {
            "model.safetensors": safetensors(),
            "config.json": json.dumps(CONFIG),
            "tokenizer.json": "{}",
            "chat_template.jinja": TEMPLATE,
            "README.md": "---\nlicense: apache-2.0\n---\n# Tiny\n\nA *small* one. <script>alert(1)</script>",
            **{key.replace("__", "."): value for key, value in files.items()},
        }
        for file, text in content.items():
            if text is not None:
                (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)
        return folder

    return write


@pytest.fixture
def by(platform_administrator: User) -> Operator:
    return operator(platform_administrator)


@pytest.fixture
def other(db: None) -> Operator:
    """A second platform administrator."""
    return operator(make_user("second@custos.example", is_platform_administrator=True))


def import_folder(by: Operator, source: str = "tiny", **asked: Any) -> ModelImport:
    """The row of an import that was begun and carried out."""
    row = imports.begin(by=by, source_kind="folder", source=source, **asked)
    imports.run_waiting()
    return imports.import_by_id(row.pk)
