"""What a precision costs is measured as it is served, kept beside the models, and said in both languages."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import pytest
import torch
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import Settings
from torch.nn import functional
from transformers import LlamaForCausalLM

from console.supervisor import catalogues
from inference.engine import quality
from inference.engine.kernels import build, ops
from inference.engine.kernels.build import Status
from inference.engine.layers import replace_layers
from inference.engine.quality import EVALUATION_TEXT, compare, windows_of
from inference.models.load import LoadedModel
from tests.inference.conftest import NO_KERNELS, served
from tests.support.services import REPOSITORY

# Longer than a step, so that keys and values of earlier ones are read; not of whole blocks.
WINDOWS = [[7 * n * n % 400 + 3 for n in range(length)] for length in (203, 40)]


def damaged(model: Any) -> Any:
    """A copy whose last layer adds half of what it should."""
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.layers[-1].mlp.down_proj.weight.mul_(0.5)
    return broken


# --- The measure ----------------------------------------------------------------------------------------------


def test_a_model_is_as_good_as_itself(tiny_model: Any) -> None:
    heard: list[tuple[int, int]] = []
    found = compare(
        served(tiny_model), served(tiny_model), WINDOWS, on_progress=lambda *step: heard.append(step)
    )
    assert found.perplexity == found.reference_perplexity
    assert (found.agreement, found.divergence, found.size_ratio) == (1.0, 0.0, 1.0)
    assert found.num_tokens == 202 + 39
    assert heard == [(128, 241), (202, 241), (241, 241)]


@torch.inference_mode()
def test_the_figures_are_those_of_the_models_own_logits(tiny_model: Any) -> None:
    """Computed at once by transformers' own attention, where the engine goes step by step through its memory."""
    broken = damaged(tiny_model)
    truth = torch.tensor([token for window in WINDOWS for token in window[1:]])

    def logprobs(model: Any) -> torch.Tensor:
        return torch.cat([model(torch.tensor([w])).logits[0, :-1] for w in WINDOWS]).double().log_softmax(-1)

    expected, other = logprobs(tiny_model), logprobs(broken)
    found = compare(served(tiny_model), served(broken), WINDOWS)
    for perplexity, of in ((found.reference_perplexity, expected), (found.perplexity, other)):
        assert perplexity == pytest.approx(functional.nll_loss(of, truth).exp().item(), rel=1e-3)
    agreement = (expected.argmax(-1) == other.argmax(-1)).double().mean().item()
    assert found.agreement == pytest.approx(agreement, abs=0.005)
    assert 0.05 < agreement < 0.95
    divergence = functional.kl_div(other, expected, log_target=True, reduction="batchmean").item()
    assert found.divergence == pytest.approx(divergence, rel=1e-3)


@pytest.mark.parametrize("packed", [True, False])
def test_int8_is_closer_than_a_damaged_model(tiny_model: Any, kernels: Status, packed: bool) -> None:
    half = copy.deepcopy(tiny_model).bfloat16()
    reference, small, broken = served(half), served(half), served(damaged(half))
    for model, precision in ((reference, "bfloat16"), (small, "int8"), (broken, "bfloat16")):
        replace_layers(model, precision=precision, packed=packed)
    good, bad = compare(reference, small, WINDOWS), compare(reference, broken, WINDOWS)
    assert 1 > good.agreement > 0.8 > bad.agreement
    assert 0 < 10 * good.divergence < bad.divergence
    assert (bad.size_ratio, good.reference_bytes) == (1.0, bad.reference_bytes)


def test_what_progress_raises_ends_the_comparison_and_gives_memory_back(tiny_model: Any) -> None:
    before, num_threads = set(ops._caches), torch.get_num_threads()

    def stop(done: int, total: int) -> None:
        assert len(ops._caches) == len(before) + 2
        torch.set_num_threads(num_threads + 1)  # As a runner may.
        raise InterruptedError(done)

    with pytest.raises(InterruptedError, match="128"):
        compare(served(tiny_model), served(tiny_model), WINDOWS, on_progress=stop)
    assert set(ops._caches) == before
    assert torch.get_num_threads() == num_threads


@pytest.mark.parametrize("windows", [[], [[]], [[5], [6]]])
def test_a_text_in_which_nothing_follows_is_refused(tiny_model: Any, windows: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="two tokens"):
        compare(tiny_model, tiny_model, windows)


def test_smollm2_in_int8_is_half_as_large_and_nearly_as_good(smollm2: LoadedModel, kernels: Status) -> None:
    reference, small = served(smollm2.model), served(smollm2.model)
    replace_layers(reference, precision="bfloat16", packed=True)
    replace_layers(small, precision="int8", packed=True)
    windows = windows_of(smollm2.tokenizer, EVALUATION_TEXT.read_text(encoding="utf-8"))
    found = compare(reference, small, [windows[0], windows[-1][:60]])  # English, and a little Chinese.
    assert found.size_ratio <= 0.55
    assert found.agreement > 0.88
    assert found.divergence < 0.02
    assert found.perplexity == pytest.approx(found.reference_perplexity, rel=0.04)


# --- Windows ----------------------------------------------------------------------------------------------------


def test_every_token_but_the_first_is_predicted_once(tokenizer: Any) -> None:
    text = EVALUATION_TEXT.read_text(encoding="utf-8")
    windows = windows_of(tokenizer, text, length=100)
    assert {len(window) for window in windows[:-1]} == {100}
    assert [window[-1] for window in windows[:-1]] == [window[0] for window in windows[1:]]
    ids = tokenizer(text)["input_ids"]
    assert [*windows[0][:1], *(token for window in windows for token in window[1:])] == ids
    assert len(ids) > 3000


def test_a_text_that_fills_its_windows_leaves_none_empty(tokenizer: Any) -> None:
    text = " one" * 9
    assert [len(window) for window in windows_of(tokenizer, text, length=5)] == [5, 5]
    assert windows_of(tokenizer, "") == []


def test_windows_begin_as_the_model_expects_texts_to_begin() -> None:
    class Tokenizer:
        bos_token_id = 1

        def __call__(
            self, text: str, *, add_special_tokens: bool = True, **_: object
        ) -> dict[str, list[int]]:
            return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}

    windows = windows_of(Tokenizer(), "abcdefg", length=4)
    assert windows == [[1, *map(ord, part)] for part in ("abc", "def", "g")]


# --- The command ------------------------------------------------------------------------------------------------

# Nothing here asks for the database, so pytest-django fails whatever touches it.


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Quantize:
    """Runs the command on the tiny model; `out` and `err` are what it wrote."""

    def __init__(self, model: Path, text: Path, models_dir: Path) -> None:
        self.model, self.text, self.models_dir = model, text, models_dir
        self.out, self.err = "", ""

    def __call__(self, *arguments: str, err: StringIO | None = None) -> None:
        out, err = StringIO(), err or StringIO()
        try:
            given = ("--model", str(self.model), "--text", str(self.text), *arguments)
            call_command("quantize", *given, stdout=out, stderr=err)
        finally:
            self.out, self.err = out.getvalue(), err.getvalue()

    def report(self) -> dict[str, Any]:
        (path,) = self.models_dir.glob("*.report.json")
        return json.loads(path.read_text())


@pytest.fixture
def quantize(
    tiny_folder: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Quantize:
    """In English and without kernels, unless a test says otherwise."""
    settings.VAR_DIR = tmp_path
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setattr(build, "load_kernels", lambda cache_dir: NO_KERNELS)
    text = tmp_path / "text.txt"
    text.write_text(EVALUATION_TEXT.read_text(encoding="utf-8")[:1200], encoding="utf-8")
    return Quantize(tiny_folder, text, tmp_path / "models")


@pytest.fixture
def chinese(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in Chinese, with the catalogue compiled as at a start."""
    folder = Path("locale/zh_Hans/LC_MESSAGES")
    (tmp_path / folder).mkdir(parents=True)
    shutil.copy(REPOSITORY / folder / "django.po", tmp_path / folder)
    catalogues.compile_all(tmp_path)
    settings.LOCALE_PATHS = [tmp_path / "locale"]
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")


def places(line: str) -> int:
    """How wide a terminal shows it."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in line)


def test_it_says_and_keeps_what_int8_saves_and_costs(quantize: Quantize) -> None:
    quantize()
    report = quantize.report()
    rows = [line.rsplit(None, 2) for line in quantize.out.splitlines()[1:5]]
    assert rows == [
        ["  precision", "bfloat16", "int8"],
        ["  weights, MB", f"{report['reference_bytes'] / 1e6:.1f}", f"{report['weight_bytes'] / 1e6:.1f}"],
        ["  share of the size", "1", f"{report['size_ratio']:.3f}"],
        ["  perplexity", f"{report['reference_perplexity']:.3f}", f"{report['perplexity']:.3f}"],
    ]
    assert f"{report['agreement']:.1%}" in quantize.out
    assert f"{report['divergence']:.5f}" in quantize.out
    assert 0.5 < report["size_ratio"] <= 0.55
    assert (report["precision"], report["reference"], report["kernels"]) == ("int8", "bfloat16", False)
    (path,) = quantize.models_dir.glob("*.report.json")
    assert path.name == f"tiny-llama-{report['digest'][:12]}.int8.report.json"
    assert f"Written to {path}." in quantize.out


def test_it_speaks_the_language_of_the_shell(quantize: Quantize, chinese: None) -> None:
    quantize()
    lines = quantize.out.splitlines()
    assert lines[0].endswith("个词元")
    assert [line.split()[0] for line in lines[1:5]] == ["精度", "权重（MB）", "大小之比", "困惑度"]
    assert len({places(line) for line in lines[1:7]}) == 1
    assert lines[-1].startswith("报告已写入")
    assert quantize.err.splitlines()[-1] == "正在读取文本：100%"
    with pytest.raises(CommandError, match="低于要求的 100"):
        quantize("--require-agreement", "1")


def test_as_json_it_prints_the_report_alone(quantize: Quantize) -> None:
    quantize("--json")
    assert json.loads(quantize.out) == quantize.report()
    assert quantize.err.splitlines()[-1] == "Reading the text: 100%"


def test_float32_is_compared_too_and_may_be_larger(quantize: Quantize) -> None:
    quantize("--precision", "float32")
    report = quantize.report()
    assert report["size_ratio"] == 2.0
    assert report["agreement"] > 0.9


def test_on_a_terminal_progress_stays_in_one_line(quantize: Quantize) -> None:
    quantize(err=Terminal())
    loading, reading, rest = quantize.err.split("\n")
    assert "twice" in loading
    assert rest == ""
    assert reading.startswith("\rReading the text: ") and reading.endswith("\rReading the text: 100%")


def test_too_little_agreement_fails_but_is_kept(quantize: Quantize) -> None:
    with pytest.raises(CommandError, match=r"less than the 100\.0% required") as failure:
        quantize("--require-agreement", "1")
    assert failure.value.returncode == 3
    assert quantize.report()["agreement"] < 1
    least = f"{quantize.report()['agreement'] - 0.01}"
    quantize("--require-agreement", least)


def test_int8_that_saves_too_little_fails(
    quantize: Quantize, kernels: Status, monkeypatch: pytest.MonkeyPatch, tiny_model: Any, tmp_path: Path
) -> None:
    """A row of 16 weights and a scale of 4 bytes for it, in the kernels' layout."""
    monkeypatch.setattr(build, "load_kernels", lambda cache_dir: kernels)
    config = copy.deepcopy(tiny_model.config)
    config.hidden_size, config.head_dim, config.tie_word_embeddings = 16, 4, True
    narrow = tmp_path / "narrow"
    shutil.copytree(quantize.model, narrow)
    LlamaForCausalLM(config).save_pretrained(narrow)
    quantize.model = narrow
    with pytest.raises(
        CommandError, match=r"take 0\.6\d\d of the size in bfloat16, more than 0\.55"
    ) as failure:
        quantize()
    assert failure.value.returncode == 3
    assert quantize.report()["kernels"] is True


@pytest.mark.parametrize("share", ["1.01", "-0.1", "most"])
def test_a_share_that_is_none_is_refused(quantize: Quantize, share: str) -> None:
    with pytest.raises(CommandError, match="require-agreement"):
        quantize(f"--require-agreement={share}")


def test_what_cannot_be_read_is_named(quantize: Quantize, tmp_path: Path) -> None:
    quantize.text.write_text("a")
    with pytest.raises(CommandError, match="two tokens"):
        quantize()
    quantize.text.write_bytes(b"\xff\xff")
    with pytest.raises(CommandError, match="utf-8"):
        quantize()
    quantize.text.unlink()
    with pytest.raises(CommandError, match=r"text\.txt"):
        quantize()
    quantize.model = tmp_path / "nowhere"
    quantize.text.write_text("a b")
    with pytest.raises(CommandError, match="nowhere") as failure:
        quantize()
    assert failure.value.returncode == 1
    assert list(tmp_path.rglob("*.report.json")) == []


def test_interrupted_it_ends_without_a_report(quantize: Quantize, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, on_progress: Callable[[int, int], None], **__: object) -> None:
        on_progress(1, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(quality, "compare", interrupt)
    with pytest.raises(CommandError, match="Stopped") as failure:
        quantize()
    assert failure.value.returncode == 130
    assert list(quantize.models_dir.glob("*.report.*")) == []
