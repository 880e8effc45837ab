"""Fetching a model of the Hugging Face hub, or of a mirror of it: safe files alone, one revision, each byte once.

What another source needs to be fetched from is `files` and `read`: a listing with sizes and digests, and the bytes of a
file from an offset on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from urllib.parse import quote, urlsplit

import httpx
from django.conf import settings

from inference.registry.failures import ImportFailed

REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
REVISION = re.compile(r"[\w.-]{1,100}", re.ASCII)
_WANTED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "README.md")
_MOST_FILES = 2000
_MOST_LISTING = 16 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """sha256 (hex) is "" where the source does not name it."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository at a revision: a commit, a tag or a branch."""

    repository: str
    revision: str

    def files(self) -> tuple[str, list[RemoteFile]]:
        """(the commit, its files). Raises ImportFailed."""
        url = f"{settings.HUB_URL}/api/models/{self.repository}/revision/{quote(self.revision, safe='')}"
        with self._asking(url, params={"blobs": "true"}) as answer:
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MOST_LISTING:
                    raise ImportFailed("hub_status", "200, and a list without end")
        try:
            return _listed(httpx.Response(200, content=bytes(content)).json())
        except (ValueError, KeyError, TypeError):
            raise ImportFailed("hub_status", "200, and no list of files") from None

    def read(self, commit: str, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The file's bytes from `offset` on. Raises ImportFailed."""
        url = f"{settings.HUB_URL}/{self.repository}/resolve/{commit}/{quote(file.name)}"
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={offset}-"} if offset else {})}
        with self._asking(url, headers=headers) as answer:
            skip = (
                offset if offset and answer.status_code != 206 else 0
            )  # It began at the beginning all the same.
            for chunk in answer.iter_raw():
                yield chunk[skip:]
                skip = max(0, skip - len(chunk))

    @contextmanager
    def _asking(
        self, url: str, *, params: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        try:
            with (
                httpx.Client(timeout=30, follow_redirects=True, max_redirects=5) as client,
                client.stream("GET", url, params=params, headers=headers) as answer,
            ):
                if answer.status_code in (401, 403, 404):
                    raise ImportFailed("hub_missing", f"{self.repository}@{self.revision}")
                if answer.status_code >= 300:
                    raise ImportFailed("hub_status", str(answer.status_code))
                yield answer
        except httpx.HTTPError:
            raise ImportFailed("offline", urlsplit(settings.HUB_URL).netloc) from None


def _listed(found: dict[str, object]) -> tuple[str, list[RemoteFile]]:
    commit, siblings = str(found["sha"]), found["siblings"]
    assert isinstance(siblings, list)
    if not REVISION.fullmatch(commit) or len(siblings) > _MOST_FILES:
        raise ValueError(commit)
    files = []
    for each in siblings:
        name, size, blob = str(each["rfilename"]), each.get("size"), each.get("lfs") or {}
        # Folders below hold other forms of the same weights, or code.
        if "/" in name or name.startswith(".") or not any(fnmatch(name, wanted) for wanted in _WANTED):
            continue
        if type(size) is not int or size < 0:
            raise ValueError(name)
        files.append(RemoteFile(name, size, str(blob.get("sha256", ""))))
    return commit, files
