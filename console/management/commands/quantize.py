"""`manage.py quantize`: what a precision of a model saves, and what it costs."""

import dataclasses
import hashlib
import json
import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import translation
from django.utils.translation import gettext as _

from console import environment

REFERENCE = "bfloat16"
LARGEST_INT8_RATIO = 0.55
# Exit statuses; 1 says that nothing was measured.
LIMIT_MISSED = 3
INTERRUPTED = 130

Report = dict[str, Any]


class Command(BaseCommand):
    help = (
        "Compare a model in a precision with the same in bfloat16: size, perplexity, agreement. Needs no database. "
        f"Exit status {LIMIT_MISSED}: int8 is larger than {LARGEST_INT8_RATIO} of bfloat16, or agrees too seldom."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model", default="smollm2", help="smollm2, a folder, a .gguf file, or hub:ORG/NAME@REVISION"
        )
        parser.add_argument("--precision", choices=("int8", "float32"), default="int8")
        parser.add_argument("--text", type=Path, metavar="FILE", help="what to read; default: a text of ours")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")
        parser.add_argument(
            "--require-agreement", type=_share, default=0.0, metavar="SHARE", help="fail below, as 0.9"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with translation.override(_language()):
            try:
                report = self._measured(options["model"], options["precision"], options["text"])
            except KeyboardInterrupt:
                raise CommandError(_("Stopped."), returncode=INTERRUPTED) from None
            path = _keep(report)
            if options["json"]:
                self.stdout.write(json.dumps(report, indent=1))
            else:
                self.stdout.write(_table(report))
                self.stdout.write(_("Written to %s.") % path)
            _check(report, least_agreement=options["require_agreement"])

    def _measured(self, model: str, precision: str, text: Path | None) -> Report:
        # Here, so that other commands do not wait for torch.
        from inference.engine.attention import UnsupportedAttention
        from inference.models.errors import ModelError

        self.stderr.write(_("Loading the model twice."), style_func=str)
        try:
            return _measure(model, precision, text, on_progress=self._progress())
        except (ModelError, UnsupportedAttention, OSError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _progress(self) -> Callable[[int, int], None]:
        """Per cent: on a terminal in one line, else a line for every ten."""
        one_line = self.stderr.isatty()
        shown = 0

        def show(done: int, total: int) -> None:
            nonlocal shown
            percent = 100 * done // total
            if percent // (1 if one_line else 10) > shown // (1 if one_line else 10):
                shown = percent
                words = _("Reading the text: %(percent)d%%") % {"percent": percent}
                stays = one_line and done < total
                self.stderr.write(
                    f"\r{words}" if one_line else words, style_func=str, ending="" if stays else "\n"
                )

        return show


def _language() -> str:
    """As the shell has it, if it names one of ours."""
    try:
        return translation.get_supported_language_variant(environment.shell_language())
    except LookupError:
        return translation.get_language() or settings.LANGUAGE_CODE


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise ArgumentTypeError("must be from 0 to 1")
    return value


def _models_dir() -> Path:
    return settings.VAR_DIR / "models"


def _measure(
    model: str, precision: str, text: Path | None, *, on_progress: Callable[[int, int], None]
) -> Report:
    """Load the model in both precisions, as the server does, and compare them. Raises as those do."""
    import torch

    from inference.engine import quality
    from inference.engine.attention import NAME
    from inference.engine.kernels.build import load_kernels
    from inference.engine.layers import replace_layers
    from inference.models.folder import prepare
    from inference.models.load import choose_device, load
    from inference.models.source import parse_source

    words = (text or quality.EVALUATION_TEXT).read_text(encoding="utf-8")
    folder = prepare(parse_source(model), _models_dir())
    device = choose_device()
    packed = device.type == "cpu" and load_kernels(_models_dir() / "compiled").loaded

    def served(precision: Any) -> Any:
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        loaded = load(folder, dtype=dtype, device=device, attention=NAME)
        replace_layers(loaded.model, precision=precision, packed=packed)
        return loaded

    candidate = served(precision)  # First, as loading it takes the room of both.
    length = min(quality.WINDOW, candidate.max_context)
    found = quality.compare(
        served(REFERENCE).model,
        candidate.model,
        quality.windows_of(candidate.tokenizer, words, length=length),
        on_progress=on_progress,
    )
    return {
        "model": folder.manifest.name,
        "digest": folder.manifest.digest,
        "precision": precision,
        "reference": REFERENCE,
        "kernels": packed,
        "text_sha256": hashlib.sha256(words.encode()).hexdigest(),
        "window": length,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **dataclasses.asdict(found),
        "size_ratio": found.size_ratio,
    }


def _keep(report: Report) -> Path:
    """Write the report among the models, named after the model's digest, so that it is never taken for another's."""
    name = f"{report['model']}-{report['digest'][:12]}.{report['precision']}.report.json"
    path = _models_dir() / name
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def _table(report: Report) -> str:
    rows = [
        (_("precision"), report["reference"], report["precision"]),
        (
            _("weights, MB"),
            f"{report['reference_bytes'] / 1e6:.1f}",
            f"{report['weight_bytes'] / 1e6:.1f}",
        ),
        (_("share of the size"), "1", f"{report['size_ratio']:.3f}"),
        (_("perplexity"), f"{report['reference_perplexity']:.3f}", f"{report['perplexity']:.3f}"),
        (_("same likeliest token"), "", f"{report['agreement']:.1%}"),
        (_("KL divergence, nats"), "", f"{report['divergence']:.5f}"),
    ]
    title = _("%(model)s, %(count)d tokens") % {"model": report["model"], "count": report["num_tokens"]}
    return "\n".join([title, *(f"  {_padded(name)}{first:>12}{second:>12}" for name, first, second in rows)])


def _padded(text: str, width: int = 24) -> str:
    """Chinese characters take two places each."""
    return text + " " * (width - sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text))


def _check(report: Report, *, least_agreement: float) -> None:
    """Raises CommandError where a limit is missed."""
    if report["precision"] == "int8" and report["size_ratio"] > LARGEST_INT8_RATIO:
        raise CommandError(
            _("The int8 weights take %(ratio).3f of the size in bfloat16, more than %(most).2f.")
            % {"ratio": report["size_ratio"], "most": LARGEST_INT8_RATIO},
            returncode=LIMIT_MISSED,
        )
    if report["agreement"] < least_agreement:
        raise CommandError(
            _("The two agree on %(share).1f%% of the tokens, less than the %(least).1f%% required.")
            % {"share": 100 * report["agreement"], "least": 100 * least_agreement},
            returncode=LIMIT_MISSED,
        )
