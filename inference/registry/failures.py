"""Why an import failed, in words that say what to do next."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

SENTENCES: dict[str, str | Promise] = {
    "no_models_dir": _("This server has no folder for models. Set CUSTOS_MODELS_DIR and start Custos again."),
    "folder": _("There is no folder “%(detail)s” in the models’ folder of this server."),
    "outside": _("“%(detail)s” leads out of the models’ folder. Put the files themselves there."),
    "pickle": _(
        "“%(detail)s” is pickled: opening it can run code, so it is refused. Convert the weights to safetensors first."
    ),
    "no_weights": _("There are no weights in it: put *.safetensors there, or a single .gguf file."),
    "missing": _("%(detail)s is missing. A model needs config.json and tokenizer.json beside its weights."),
    "header": _("%(detail)s is damaged, or not what its name says. Fetch it again from where it comes from."),
    "too_large": _("%(detail)s is larger than such a file can be. Fetch it again from where it comes from."),
    "limits": _("Reading the files’ headers took more memory or time than allowed, so they are refused."),
    "template": _(
        "The model’s chat template failed on a short conversation (%(detail)s). Mend chat_template, then try again."
    ),
    "template_limits": _(
        "The model’s chat template did not come to an end. Mend chat_template, then try again."
    ),
    "architecture": _("Custos cannot tell what a model of the architecture “%(detail)s” makes of a text."),
    "digest": _("%(detail)s does not have the digest that its source names. It was removed; try again."),
    "offline": _("%(detail)s cannot be reached. Check the network of this server, then resume."),
    "hub_missing": _("The hub has no %(detail)s that is open to everyone. Check the name and the revision."),
    "hub_status": _("The hub answered with status %(detail)s. Try again later."),
    "space": _("The disk of this server has too little room: %(detail)s more are needed."),
    "incomplete": _("%(detail)s was not uploaded completely. Go on with the upload."),
    "exists": _("These files are registered already as %(detail)s."),
    "not_allowed": _("Whoever began this is no platform administrator any more. Begin it anew."),
    "unexpected": _("Something went wrong that should not (%(detail)s). See the worker’s log, then resume."),
}


class ImportFailed(Exception):
    """A model cannot be imported as asked. code: in SENTENCES."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail[:500]


def sentence(code: str, detail: str) -> str:
    """The failure in the language of now."""
    return str(SENTENCES.get(code, code)) % {"detail": detail}
