"""Imports: what comes of a folder, an upload and the hub; what is refused, and how one goes on after an interruption."""

import hashlib
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from audit.models import AuditRecord
from inference.models.errors import DigestMismatch
from inference.models.folder import prepare
from inference.models.source import parse_source
from inference.registry import imports, selectors, uploads
from inference.registry.failures import SENTENCES, sentence
from inference.registry.models import ModelImport, ModelVersion
from inference.registry.operators import Operator
from tenants import clock
from tenants.errors import Refused
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.registry.conftest import CONFIG, TEMPLATE, Writer, import_folder, safetensors

pytestmark = pytest.mark.django_db

# --- Folders ----------------------------------------------------------------------------------------


def test_a_folder_becomes_a_version_that_stays_where_it_is(by: Operator, write_model: Writer) -> None:
    folder = write_model()
    row = import_folder(by, title="Tiny one")
    assert (row.state, row.failure) == ("done", "")
    assert row.bytes_done == row.bytes_total > 0
    version = row.version
    assert version is not None
    assert str(version) == "tiny@1" and version.model.title == "Tiny one"
    assert (version.architecture, version.parameters, version.context_tokens) == (
        "LlamaForCausalLM",
        16,
        4096,
    )
    assert (version.licence, version.precision, version.kind) == ("apache-2.0", "bfloat16", "text")
    assert version.card.startswith("# Tiny")
    assert version.settings == {"weights": "bfloat16", "layers": 2}
    wanted = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in version.files}
    assert {name: file["sha256"] for name, file in version.files.items()} == wanted
    assert set(wanted) == {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"}
    assert selectors.stage_of(version) == "draft"


def test_the_inference_process_loads_these_files_and_no_others(
    by: Operator, write_model: Writer, tmp_path: Path
) -> None:
    folder = write_model()
    version = import_folder(by).version
    assert version is not None
    place, digest = selectors.weights_of(version)
    assert Path(place) == folder
    assert prepare(parse_source(place), tmp_path / "a", digest=digest).manifest.files
    (folder / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 1.0}))
    # Also where nothing was pinned yet: as after a new installation.
    with pytest.raises(DigestMismatch, match="registered"):
        prepare(parse_source(place), tmp_path / "b", digest=digest)


def test_the_same_files_are_registered_once_and_new_ones_become_the_next_version(
    by: Operator, write_model: Writer
) -> None:
    write_model()
    import_folder(by)
    again = import_folder(by)
    assert (again.state, again.failure) == ("failed", "exists")
    write_model(model__safetensors=safetensors((8, 4)))
    assert str(import_folder(by).version) == "tiny@2"


@pytest.mark.parametrize("source", ["../secret", "/etc", "tiny/../../secret", "link", "", ".", "tiny\x00"])
def test_no_path_leads_out_of_the_folder(by: Operator, write_model: Writer, source: str) -> None:
    folder = write_model()
    secret = folder.parent.parent / "secret"
    secret.mkdir()
    (secret / "model.safetensors").write_bytes(safetensors())
    (folder.parent / "link").symlink_to(secret)
    with pytest.raises(Refused) as refused:
        imports.begin(by=by, source_kind="folder", source=source)
    assert refused.value.code in ("outside", "folder")
    assert not ModelImport.objects.exists()


def test_a_file_that_leads_out_is_refused(by: Operator, write_model: Writer, tmp_path: Path) -> None:
    folder = write_model(tokenizer__json=None)
    (tmp_path / "shadow").write_text("root:x")
    (folder / "tokenizer.json").symlink_to(tmp_path / "shadow")
    row = import_folder(by)
    assert (row.failure, row.failure_detail) == ("outside", "tokenizer.json")


HUGE = (1 << 40).to_bytes(8, "little") + b"{}"
NESTED = b"[" * 100_000


@pytest.mark.parametrize(
    ("files", "failure"),
    [
        ({"model.safetensors": None, "pytorch_model.bin": b"\x80\x04."}, "pickle"),
        ({"model.safetensors": None}, "no_weights"),
        ({"tokenizer.json": None}, "missing"),
        ({"config.json": None}, "missing"),
        ({"model.safetensors": b"PK\x03\x04" + bytes(100)}, "header"),
        ({"model.safetensors": b"\x80\x04"}, "header"),
        ({"model.safetensors": HUGE}, "header"),
        ({"model.safetensors": len(NESTED).to_bytes(8, "little") + NESTED}, "header"),
        ({"model.safetensors": safetensors(data_offsets=[0, 1 << 40])}, "header"),
        ({"model.safetensors": safetensors(shape=(4, 5), data_offsets=[0, 32])}, "header"),
        ({"model.safetensors": safetensors() + b"more"}, "header"),
        ({"model.safetensors": safetensors(dtype="EVIL")}, "header"),
        ({"config.json": "[1]"}, "header"),
        ({"config.json": '{"architectures": ["Strange"]}'}, "architecture"),
    ],
)
def test_what_is_damaged_or_unsafe_is_refused_in_words(
    by: Operator, write_model: Writer, files: dict[str, Any], failure: str
) -> None:
    if isinstance(files.get("model.safetensors"), bytes) and b"EVIL" in files["model.safetensors"]:
        files = {"model.safetensors": safetensors().replace(b"BF16", b"EVIL")}
    write_model(**files)
    row = import_folder(by)
    assert (row.state, row.failure) == ("failed", failure)
    assert "%(" not in sentence(row.failure, row.failure_detail)
    assert not ModelVersion.objects.exists()


# --- Templates --------------------------------------------------------------------------------------


def test_a_malicious_template_runs_nothing_and_is_refused(
    by: Operator, write_model: Writer, tmp_path: Path
) -> None:
    target = tmp_path / "escaped"
    write_model(
        **{
            "chat_template.jinja": "{{ cycler.__init__.__globals__.os.system('touch " + str(target) + "') }}",
        }
    )
    row = import_folder(by)
    assert (row.failure, row.failure_detail) == ("template", "SecurityError")
    assert not target.exists()


@pytest.mark.parametrize(
    ("template", "failure"),
    [
        ("{{ unclosed", "template"),
        ("{% for i in range(90000) %}{{ 'x' * 90000 }}{% endfor %}", "template"),
        ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "template_limits"),
        ("{{ raise_exception('roles must alternate') }}", ""),
    ],
)
def test_a_template_is_tried_once_within_limits(
    by: Operator, write_model: Writer, template: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_INSPECT_SECONDS", 40)
    write_model(**{"chat_template.jinja": template})
    assert import_folder(by).failure == failure


# --- Interruptions ----------------------------------------------------------------------------------


def test_a_cancelled_import_ends_and_is_resumed(
    by: Operator, write_model: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model()
    row = imports.begin(by=by, source_kind="folder", source="tiny")
    reads = imports.inspect

    def cancelled_meanwhile(folder: Path) -> dict[str, Any]:
        imports.cancel(by=by, import_id=row.pk)
        return reads(folder)

    monkeypatch.setattr(imports, "inspect", cancelled_meanwhile)
    imports.run_waiting()
    assert imports.import_by_id(row.pk).state == "cancelled"
    assert not ModelVersion.objects.exists()
    monkeypatch.setattr(imports, "inspect", reads)
    imports.resume(by=by, import_id=row.pk)
    imports.run_waiting()
    assert imports.import_by_id(row.pk).state == "done"
    with pytest.raises(Refused, match="Done"):
        imports.cancel(by=by, import_id=row.pk)


def test_an_import_whose_worker_died_is_taken_up_and_a_living_ones_is_not(
    by: Operator, write_model: Writer
) -> None:
    write_model()
    row = imports.begin(by=by, source_kind="folder", source="tiny")
    ModelImport.objects.update(state="running", touched=clock.now())
    assert imports.run_waiting() == 0
    ModelImport.objects.update(touched=clock.now() - imports.STALE - timedelta(seconds=1))
    assert imports.run_waiting() == 1
    assert imports.import_by_id(row.pk).state == "done"


def test_whoever_is_no_administrator_any_more_imports_nothing(
    by: Operator, write_model: Writer, platform_administrator: User
) -> None:
    write_model()
    row = imports.begin(by=by, source_kind="folder", source="tiny")
    User.objects.filter(pk=platform_administrator.pk).update(is_platform_administrator=False)
    imports.run_waiting()
    assert imports.import_by_id(row.pk).failure == "not_allowed"


def test_a_mistake_of_ours_is_a_failure_with_words(
    by: Operator, write_model: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model()
    monkeypatch.setattr(imports, "hashed", lambda *_: 1 / 0)
    row = import_folder(by)
    assert (row.state, row.failure, row.failure_detail) == ("failed", "unexpected", "ZeroDivisionError")
    assert set(SENTENCES) >= {row.failure}


# --- Uploads ----------------------------------------------------------------------------------------

FILES = {
    "model.safetensors": safetensors(),
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": b"{}",
}


def announce(by: Operator, files: dict[str, bytes] = FILES) -> ModelImport:
    sizes = {name: len(content) for name, content in files.items()}
    uploads.check_files(sizes)
    return imports.begin(by=by, source_kind="upload", source="", name="Mine", files=sizes)


def send(row: ModelImport, name: str, offset: int, content: bytes, sha256: str | None = None) -> int:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return uploads.add_chunk(import_id=row.pk, name=name, offset=offset, content=content, sha256=digest)


def test_an_upload_comes_in_pieces_and_goes_on_where_it_broke_off(by: Operator, models_dir: Path) -> None:
    row = announce(by)
    for name, content in FILES.items():
        half = len(content) // 2
        assert send(row, name, 0, content[:half]) == half
        with pytest.raises(uploads.WrongPlace) as wrong:
            send(row, name, 0, content[:half])  # Sent again, as the answer was lost.
        assert wrong.value.received == half
        with pytest.raises(Refused, match="damaged"):
            send(row, name, half, content[half:], sha256="0" * 64)
        with pytest.raises(Refused, match="completely"):
            imports.finish_upload(by=by, import_id=row.pk)
        assert send(row, name, half, content[half:]) == len(content)
        with pytest.raises(uploads.WrongPlace):
            send(row, name, len(content), b"beyond")
    imports.finish_upload(by=by, import_id=row.pk)
    imports.run_waiting()
    done = imports.import_by_id(row.pk)
    assert (done.state, str(done.version)) == ("done", "mine@1")
    assert done.version is not None
    place, digest = selectors.weights_of(done.version)
    assert prepare(parse_source(place), models_dir / "pins", digest=digest).manifest.files
    with pytest.raises(Refused):
        send(row, "config.json", 0, b"late")


def test_an_upload_without_files_is_not_finished_and_waits_for_them_when_resumed(
    by: Operator, models_dir: Path
) -> None:
    row = imports.begin(by=by, source_kind="upload", source="", name="Mine")
    with pytest.raises(Refused, match="Choose the files"):
        imports.finish_upload(by=by, import_id=row.pk)
    imports.cancel(by=by, import_id=row.pk)
    imports.resume(by=by, import_id=row.pk)
    assert imports.import_by_id(row.pk).state == "receiving"
    uploads.announce(by=by, import_id=row.pk, files={"model.safetensors": 100, "config.json": 2})
    send(row, "model.safetensors", 0, bytes(50))
    again = uploads.announce(by=by, import_id=row.pk, files={"model.safetensors": 100, "config.json": 3})
    assert uploads.received(again) == {"model.safetensors": 50, "config.json": 0}
    uploads.announce(by=by, import_id=row.pk, files={"model.safetensors": 90})
    assert uploads.received(imports.import_by_id(row.pk)) == {"model.safetensors": 0}, "of another size: anew"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("pytorch_model.bin", "pickle"),
        ("model.pt", "pickle"),
        ("model.PKL", "pickle"),
        ("modeling.py", "file_unknown"),
        ("model.zip", "file_unknown"),
        ("../../etc/passwd.json", "file_unknown"),
        (".hidden.json", "file_unknown"),
        ("a/b.json", "file_unknown"),
        ("nul\x00.json", "file_unknown"),
    ],
)
def test_what_is_no_file_of_a_model_is_not_even_begun(models_dir: Path, name: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        uploads.check_files({"model.safetensors": 10, name: 10})
    assert refused.value.code == code


def test_a_piece_fits_what_the_web_process_takes(settings: Any) -> None:
    assert uploads.CHUNK_BYTES < settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def test_uploads_have_limits(models_dir: Path, settings: Any) -> None:
    settings.MODEL_UPLOAD_BYTES = 1_000_000_000
    for files, code in (
        ({"model.safetensors": 2_000_000_000}, "too_large"),
        ({"model.safetensors": 10, "tokenizer.json": 900_000_000}, "too_large"),
        ({"config.json": 10}, "no_weights"),
        ({"model.safetensors": 0}, "file_empty"),
        ({}, "files_missing"),
    ):
        with pytest.raises(Refused) as refused:
            uploads.check_files(files)
        assert refused.value.code == code
    settings.MODEL_UPLOAD_BYTES = 1 << 60
    with pytest.raises(Refused, match="too little room"):
        uploads.check_files({"model.safetensors": 1 << 55})


# --- The hub ----------------------------------------------------------------------------------------

COMMIT = "7ae557604adf67be50417f59c2c2f167def9a775"


class FakeHub:
    """A hub with one repository. `cut`: break off the weights' download there, once."""

    def __init__(self) -> None:
        self.files = {
            **FILES,
            "chat_template.jinja": TEMPLATE.encode(),
            "evil.py": b"1/0",
            "model.bin": b"\x80",
        }
        self.cut = 0
        self.asked: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append((self.path, self.headers.get("Range", "")))
                hub.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        if to.path == "/api/models/org/tiny/revision/main?blobs=true":
            listed = [
                {
                    "rfilename": name,
                    "size": len(content),
                    **({"lfs": {"sha256": hashlib.sha256(content).hexdigest()}} if "model" in name else {}),
                }
                for name, content in self.files.items()
            ]
            self.reply(to, 200, json.dumps({"sha": COMMIT, "siblings": listed}).encode())
        elif to.path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            content = self.files[to.path.rpartition("/")[2]]
            start = int(to.headers.get("Range", "bytes=0-")[6:-1])
            self.reply(to, 206 if start else 200, content[start:])
        else:
            self.reply(to, 404, b"")

    def reply(self, to: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        to.send_response(status)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        if self.cut and to.path.endswith(".safetensors"):
            body, self.cut = body[: self.cut], 0
        to.wfile.write(body)


@pytest.fixture
def hub(settings: Any) -> Iterator[FakeHub]:
    found = FakeHub()
    settings.HUB_URL = found.url
    yield found
    found.server.shutdown()
    found.server.server_close()


def from_hub(by: Operator, source: str = "org/tiny", revision: str = "main") -> ModelImport:
    row = imports.begin(by=by, source_kind="hub", source=source, revision=revision)
    imports.run_waiting()
    return imports.import_by_id(row.pk)


def test_a_revision_of_the_hub_is_fetched_pinned_and_without_code(
    by: Operator, hub: FakeHub, models_dir: Path
) -> None:
    row = from_hub(by)
    assert (row.state, row.failure) == ("done", "")
    assert row.version is not None
    assert (row.version.revision, row.version.source) == (COMMIT, "org/tiny")
    assert set(row.version.files) == {*FILES, "chat_template.jinja"}
    assert not [path for path, _range in hub.asked if path.endswith((".py", ".bin"))]


def test_a_broken_download_goes_on_where_it_was(by: Operator, hub: FakeHub, models_dir: Path) -> None:
    hub.cut = 20
    row = from_hub(by)
    assert (row.state, row.failure) == ("failed", "offline")
    imports.resume(by=by, import_id=row.pk)
    hub.asked.clear()
    imports.run_waiting()
    assert imports.import_by_id(row.pk).state == "done"
    assert ("/org/tiny/resolve/" + COMMIT + "/model.safetensors", "bytes=20-") in hub.asked


def test_what_the_hub_lacks_or_changes_is_said(
    by: Operator, hub: FakeHub, models_dir: Path, settings: Any
) -> None:
    assert from_hub(by, "org/other").failure == "hub_missing"
    answer = hub.reply

    def altered(to: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        answer(to, status, body[:-1] + b"!" if to.path.endswith(".safetensors") else body)

    hub.reply = altered  # type: ignore[method-assign]
    assert from_hub(by).failure == "digest"
    settings.HUB_URL = "http://127.0.0.1:9"
    row = from_hub(by)
    assert (row.failure, row.failure_detail) == ("offline", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("source", "revision"),
    [("tiny", "main"), ("../x/y", "main"), ("org/..", "main"), ("org/tiny", ""), ("org/tiny", "a b")],
)
def test_a_repository_is_named_properly(by: Operator, source: str, revision: str) -> None:
    with pytest.raises(Refused):
        imports.begin(by=by, source_kind="hub", source=source, revision=revision)


def test_every_step_is_recorded_in_every_tenant(
    by: Operator, write_model: Writer, acme: Company, north: Company
) -> None:
    write_model()
    import_folder(by)
    for company in (acme, north):
        with tenant_scope(company.tenant.pk):
            kinds = list(AuditRecord.objects.order_by("pk").values_list("kind", flat=True))
        assert kinds == ["model.import_begun", "model.registered"]
