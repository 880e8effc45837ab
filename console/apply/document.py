"""The file: YAML, checked, and the line on which each thing stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints, ValidationError

from tenants.quotas.models import Metric

LARGEST = 4 * 1024 * 1024
DEEPEST = 30

Place = tuple[str | int, ...]
Text = Annotated[str, StringConstraints(strict=True, max_length=1000, pattern=r"^[^\x00]*$")]


@dataclass(frozen=True)
class Mistake:
    """Something in the file that cannot be applied. line: from 1."""

    line: int
    place: str
    message: str


class BadDocument(Exception):
    """The file cannot be applied; `mistakes` says where and why."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = mistakes


class _Part(BaseModel):
    """What is left out stays as it is; what is unknown is refused, so that no typing error is passed over."""

    model_config = ConfigDict(extra="forbid")

    def given(self, *names: str) -> dict[str, Any]:
        """Those of these fields that the file has."""
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}


class Settings(_Part):
    display_name: Text = ""
    accent: Text = ""
    default_language: Text = ""
    retention_days: StrictInt = 0
    allowed_models: list[Text] = []
    registration: Text = ""
    registration_domains: list[Text] = []
    networks: list[Text] = []
    mfa_required: StrictBool = False


class RolePart(_Part):
    name: Text
    description: Text = ""
    permissions: list[Text]


class GroupPart(_Part):
    description: Text = ""
    groups: dict[Text, GroupPart | None] = {}


class AccountPart(_Part):
    role: Text = "member"
    description: Text = ""
    enabled: StrictBool = True


class MemberPart(_Part):
    role: Text = "member"
    groups: list[Text] = []


Amounts = dict[Metric, StrictInt]


class LimitsPart(_Part):
    tenant: Amounts = {}
    members: Amounts = {}
    keys: Amounts = {}
    groups: dict[Text, Amounts] = {}


class TenantPart(_Part):
    name: Text = ""
    settings: Settings | None = None
    roles: dict[Text, RolePart] = {}
    groups: dict[Text, GroupPart | None] = {}
    service_accounts: dict[Text, AccountPart | None] = {}
    members: dict[Text, MemberPart | None] = {}
    limits: LimitsPart | None = None


class _File(_Part):
    version: Literal[1]
    tenants: dict[Text, TenantPart] = Field(min_length=1)


class Document:
    """A checked file."""

    def __init__(self, tenants: dict[str, TenantPart], lines: Mapping[Place, int]) -> None:
        self.tenants = tenants
        self._lines = lines

    def line(self, place: Place) -> int:
        """The line of the thing itself, or of the nearest one around it that has a line."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)


def read(path: Path) -> Document:
    """Raises BadDocument, and OSError when there is no such file."""
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise BadDocument(
            [Mistake(1, "", _("The file is larger than %(most)d MB.") % {"most": LARGEST // 2**20})]
        )
    return parse(raw)


def parse(raw: bytes) -> Document:
    """Raises BadDocument."""
    reader = _Reader()
    try:
        _refuse_what_grows(raw)
        data = reader.plain(yaml.compose(raw, Loader=yaml.CSafeLoader), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadDocument([Mistake(mark.line + 1 if mark else 1, "", error.problem or str(error))]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadDocument([Mistake(1, "", str(error).partition("\n")[0])]) from None
    try:
        found = _File.model_validate(data)
    except ValidationError as error:
        empty = Document({}, reader.lines)
        raise BadDocument([_mistake(each, empty) for each in error.errors()]) from None
    return Document(found.tenants, reader.lines)


def _mistake(error: Any, document: Document) -> Mistake:
    place = tuple(part for part in error["loc"] if part != "[key]")
    messages = {
        "extra_forbidden": _("This name is not known here."),
        "missing": _("This is missing."),
        "literal_error": _("Write version: 1, which is the only one so far."),
    }
    message = messages.get(error["type"], error["msg"])
    return Mistake(document.line(place), ".".join(map(str, place)), message)


class _Refused(yaml.MarkedYAMLError):
    """Raised for what YAML allows and this file does not."""

    def __init__(self, problem: str, node: yaml.Node | yaml.Event) -> None:
        super().__init__(problem=problem, problem_mark=cast(Any, node.start_mark))


def _refuse_what_grows(raw: bytes) -> None:
    """Raises _Refused for aliases, by which a small file becomes a large one, and for endless nesting."""
    depth = 0
    for event in yaml.parse(raw, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(_("Write it out here: references to other places are not understood."), event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _Refused(_("This is nested too deeply."), event)


class _Reader:
    """From YAML's nodes to data, each key once; `lines` learns where everything stands."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self._scalars = yaml.constructor.SafeConstructor()

    def plain(self, node: yaml.Node | None, place: Place) -> Any:
        if node is None:
            return None
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalars.construct_object(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(each, (*place, number)) for number, each in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalars.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise _Refused(_("Names are texts: put this one in quotation marks."), key_node)
            if key in found:
                raise _Refused(_("“%(name)s” stands here twice.") % {"name": key}, key_node)
            self.lines[(*place, key)] = key_node.start_mark.line + 1
            found[key] = self.plain(value_node, (*place, key))
        return found
