"""What the documents say of the tests is true."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)+)`", (REPOSITORY / "docs/security.md").read_text())


def test_the_table_of_controls_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "names"), sorted(set(NAMED)))
def test_a_test_that_proves_a_control_exists(file: str, names: str) -> None:
    source = (REPOSITORY / file).read_text()
    for name in names.split("::")[1:]:
        assert re.search(rf"\b(def|class) {name}\b", source), f"{file} has no {name}"


def test_links_between_documents_lead_somewhere() -> None:
    for document in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
