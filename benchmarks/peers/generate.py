"""A process that answers each line {"rows", "tokens", "round"} with how fast `generate` was on such a batch.

    python -m benchmarks.peers.generate FOLDER dynamic|static

The prompts are those of the decode loads. Tokenising and detokenising are left out: in generate's favour.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.serving import prompts


def main() -> None:
    folder, cache = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    for line in sys.stdin:
        task = json.loads(line)
        rows, tokens = task["rows"], task["tokens"]
        asked = [
            [{"role": "user", "content": prompts.question(seed=("decode", task["round"], n, 0))}]
            for n in range(rows)
        ]
        inputs: Any = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
        began = time.perf_counter()
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                cache_implementation=None if cache == "dynamic" else cache,
            )
        taken = time.perf_counter() - began
        made = (output.shape[1] - inputs["input_ids"].shape[1]) * rows
        print(json.dumps({"tokens_per_s": round(made / taken, 2), "requests": rows, "errors": 0}), flush=True)


if __name__ == "__main__":
    main()
