"""Steps that are tried in a child process, since they are heavy, may crash the interpreter, or wait for a network."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from distill.doctor.finding import line


def told(steps: list[str], seconds: float = 150) -> dict[str, dict[str, Any]]:
    """What came of each step, in one child while it lives; the step that kills one is told, the next child goes on.

    An `error` says what was wrong; with `late`, that there was no time left, which on a busy machine proves nothing.
    """
    found: dict[str, dict[str, Any]] = {}
    until = time.monotonic() + seconds
    while left := [step for step in steps if step not in found]:
        with tempfile.TemporaryFile() as said:
            command = [sys.executable, "-m", "distill.doctor.child", *left]
            left_over = max(1.0, until - time.monotonic())
            try:
                done = subprocess.run(command, stdout=said, stderr=subprocess.DEVNULL, timeout=left_over, check=False)
                ended: dict[str, Any] = {"error": f"the interpreter died (status {done.returncode})"}
            except subprocess.TimeoutExpired:
                ended = {"error": f"no answer within {seconds:g} s: is the machine busy?", "late": True}
            said.seek(0)
            for row in said.read().decode("utf-8", "replace").splitlines():
                step = json.loads(row)
                found[step.pop("step")] = step
        if dead := next((step for step in left if step not in found), None):
            found[dead] = ended
    return found


def _try(step: str) -> dict[str, Any]:
    """What a child finds out; heavy."""
    if step == "hub":
        from huggingface_hub import HfApi

        return {"user": HfApi().whoami()["name"]}
    if step == "torch":
        import torch

        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
        known = torch.version.cuda or torch.version.hip
        return {"version": torch.__version__, "built": built if known else "", "devices": torch.cuda.device_count()}
    if step == "transformers":
        import transformers
        from transformers import Qwen2ForCausalLM
        from trl import SFTTrainer

        assert Qwen2ForCausalLM
        assert SFTTrainer
        return {"version": transformers.__version__}
    if step == "vllm":
        from vllm import SamplingParams

        assert SamplingParams
    else:
        importlib.import_module(step)
    return {}


def _child(steps: list[str]) -> None:
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the packages print is not ours to read
    for step in steps:
        try:
            result = _try(step)
        except BaseException as error:  # noqa: BLE001  a package that calls exit() is broken, too
            status = getattr(getattr(error, "response", None), "status_code", None)
            result = {"error": line(error), "status": status}
        print(json.dumps({"step": step, **result}), file=said, flush=True)


if __name__ == "__main__":
    _child(sys.argv[1:])
