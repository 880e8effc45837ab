"""The running product under load and faults for a while: nothing is lost, nothing leaks.

    python -m benchmarks.soak [--minutes 10] [--programs 4] [--every 60] [--faults inference web worker …]

Programs of both tenants ask through the API without a pause; every third one hangs up in the middle. Meanwhile each
minute another process is killed (kill -9), or Valkey emptied. At the end every request that was accepted has exactly one
closed audit record, whatever a program was sent stands in it, word for word from its beginning, no generation is left
running, and, where the web process was left alone, its memory has not grown by more than a quarter since the first minute.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import redis
from django.conf import settings

from benchmarks import product

MODEL = "smollm2-135m-instruct"
TENANTS = ("acme-bank", "north-fund")
# What can happen, and what the process that is killed by it runs; Valkey is asked itself.
FAULTS = {
    "inference": "inference.server",
    "web": "uvicorn",
    "worker": "celery",
    "postgres": "bin/postgres",
    "valkey": "",
    "flush": "",
}
GROWTH_ALLOWED = 1.25
REAPER_S = 75


@dataclass
class Seen:
    """What the programs saw: keys and delivered text by request id, and how many answers went which way."""

    accepted: dict[str, str] = field(default_factory=dict)
    delivered: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)

    def note(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--programs", type=int, default=4)
    arguments.add_argument("--every", type=float, default=60, help="seconds between two faults")
    arguments.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    options = arguments.parse_args()
    with product.folder() as state, product.running(state) as url:
        keys = [product.api_key("soak", tenant=tenant) for tenant in TENANTS]
        _set_up()
        seen = Seen()
        before, after = asyncio.run(_run(url, keys, options, state, seen))
        print(f"outcomes: {dict(sorted(seen.outcomes.items()))}")
        print(f"memory of the web process: {before >> 20} MB after a minute, {after >> 20} MB at the end")
        time.sleep(REAPER_S)
        problems = _audit_problems(seen)
    if "web" not in options.faults and after > before * GROWTH_ALLOWED:
        problems.append("the web process's memory has grown")
    if unexpected := {o for o in seen.outcomes if o.startswith("unexpected")}:
        problems.append(f"answers that should not be: {unexpected}")
    print("\n".join(problems) or f"all {len(seen.accepted)} accepted requests have one closed record")
    raise SystemExit(bool(problems))


async def _run(
    url: str, keys: list[str], options: argparse.Namespace, state: Path, seen: Seen
) -> tuple[int, int]:
    """The web process's resident bytes after the first minute (or a tenth of the time) and at the end."""
    seconds = options.minutes * 60
    until = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        asking = [
            asyncio.create_task(_program(client, keys[n % 2], until, seen)) for n in range(options.programs)
        ]
        disturbing = asyncio.create_task(_disturb(state, until, options.faults, options.every, seen))
        await asyncio.sleep(min(60, seconds / 10))
        before = _resident(_pid(state, "uvicorn"))
        await asyncio.gather(*asking)
        disturbing.cancel()
    return before, _resident(_pid(state, "uvicorn"))


async def _program(client: httpx.AsyncClient, key: str, until: float, seen: Seen) -> None:
    body = {"model": MODEL, "stream": True, "max_tokens": 60, "ignore_eos": True}
    headers = {"Authorization": f"Bearer {key}"}
    while time.monotonic() < until:
        body["messages"] = [
            {"role": "user", "content": f"Tell me about the number {random.randrange(10**6)}."}
        ]
        hangs_up = random.randrange(3) == 0
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
                request_id = response.headers.get("x-request-id", "")
                if request_id:
                    seen.accepted[request_id] = key
                seen.note(await _read(response, hangs_up, request_id, seen))
        except httpx.TransportError:
            seen.note("cut off")  # The web process was killed.
            await asyncio.sleep(1)
        if not hangs_up:
            await asyncio.sleep(random.random())


async def _read(response: httpx.Response, hangs_up: bool, request_id: str, seen: Seen) -> str:
    if response.status_code in (429, 502, 503):
        await asyncio.sleep(1)
        return f"refused {response.status_code}"
    if response.status_code != 200:
        return f"unexpected: {response.status_code}"
    lines, failed = 0, False
    async for line in response.aiter_lines():
        lines += line.startswith("data:")
        seen.delivered[request_id] = seen.delivered.get(request_id, "") + _text_of(line)
        failed = failed or '"error"' in line
        if hangs_up and lines > 10:
            return "hung up"
    return "interrupted" if failed else "answered"


def _text_of(line: str) -> str:
    """What a line of the stream brings of the answer."""
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


async def _disturb(state: Path, until: float, faults: list[str], every: float, seen: Seen) -> None:
    """One fault after the other, as long as there is time to recover from it."""
    for fault in cycle(faults):
        await asyncio.sleep(every)
        if time.monotonic() > until - every:
            return
        try:
            if fault == "flush":
                await asyncio.to_thread(_flush)
            else:
                marker = FAULTS[fault]
                pid = _pid(state, marker) if marker else await asyncio.to_thread(_valkey_pid)
                os.kill(pid, signal.SIGKILL)
            seen.note(f"fault: {fault}")
        except (OSError, SystemExit, redis.RedisError):
            seen.note(f"fault: {fault}, which was away already")


def _flush() -> None:
    """Empty Valkey: nothing durable is there."""
    with redis.Redis.from_url(settings.REDIS_URL) as valkey:
        valkey.flushall()


def _valkey_pid() -> int:
    with redis.Redis.from_url(settings.REDIS_URL) as valkey:
        return int(valkey.info("server")["process_id"])


def _pid(state: Path, marker: str) -> int:
    """The product's process that runs `marker`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = (
                str(state).encode() in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            )
            if ours and marker.encode() in (process / "cmdline").read_bytes():
                return int(process.name)
        except OSError:
            continue
    raise SystemExit(f"{marker} does not run")


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _audit_problems(seen: Seen) -> list[str]:
    """Accepted requests without exactly one closed record, records that are still open, and text that is in none."""
    from audit.models import AuditChunk, AuditCompletion, AuditRecord
    from audit.output import decode, text_of
    from audit.record import REQUESTS, Handle, open_output
    from tenants.models import Tenant
    from tenants.scope import tenant_scope

    recorded: set[str] = set()
    closed: list[str] = []
    texts: dict[str, str] = {}
    for tenant in Tenant.objects.filter(slug__in=TENANTS):
        with tenant_scope(tenant.pk):
            requests = AuditRecord.objects.filter(kind__in=REQUESTS)
            recorded |= {str(each) for each in requests.values_list("id", flat=True)}
            closed += [str(pk) for pk in AuditCompletion.objects.values_list("request_id", flat=True)]
            for chunk in AuditChunk.objects.order_by("request_id", "seq").iterator():
                handle, name = Handle(tenant.pk, chunk.request_id), str(chunk.request_id)
                piece = decode(open_output(handle, seq=chunk.seq, sealed=chunk.sealed))
                texts[name] = texts.get(name, "") + text_of(piece)
    problems = [f"no record of {request_id}" for request_id in set(seen.accepted) - recorded]
    problems += [f"{request_id} is still open" for request_id in recorded - set(closed)]
    problems += [f"{request_id} is closed twice" for request_id, n in Counter(closed).items() if n > 1]
    return problems + [
        f"{request_id} was sent what is not in its record"
        for request_id, text in seen.delivered.items()
        if not texts.get(request_id, "").startswith(text)
    ]


def _set_up() -> None:
    """Django on the product's own folder."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
    django.setup()


if __name__ == "__main__":
    main()
