"""Steps that are tried in a child process, since they are heavy, may crash the interpreter, or wait for a network."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import TypedDict

from distill.doctor.finding import first_line
from distill.machine import children


class StepResult(TypedDict, total=False):
    """What came of a step: what it tells where it succeeded, `error` where it did not."""

    user: str
    """Who the Hub says one is."""
    version: str
    built: str
    """What torch is built for; empty for CPUs."""
    devices: int
    """GPUs that torch sees."""
    error: str
    status: int | None
    """Of the HTTP response that says so."""
    late: bool
    """There was no time left, which on a busy machine proves nothing."""


def try_steps(steps: list[str], seconds: float = 150) -> dict[str, StepResult]:
    """Try the steps in a child process and return what came of each; where one kills the child, the next child goes on.

    An `error` says what was wrong; with `late`, that there was no time left, which on a busy machine proves nothing.
    """
    results: dict[str, StepResult] = {}
    deadline = time.monotonic() + seconds
    while untried := [step for step in steps if step not in results]:
        time_left = max(1.0, deadline - time.monotonic())
        answer = children.run_module("distill.doctor.child", *untried, seconds=time_left)
        failure: StepResult = {"error": f"the interpreter died (status {answer.status})"}
        if answer.status is None:
            failure = {"error": f"no answer within {seconds:g} s: is the machine busy?", "late": True}
        for row in answer.output.splitlines():
            step = json.loads(row)
            results[step.pop("step")] = step
        if killer := next((step for step in untried if step not in results), None):
            results[killer] = failure
    return results


def _try(step: str) -> StepResult:
    """Do one step in the child and return what it finds out."""
    if step == "hub":
        from huggingface_hub import HfApi

        return {"user": HfApi().whoami()["name"]}
    if step == "torch":
        import torch

        build = ""
        if torch.version.cuda:
            build = f"CUDA {torch.version.cuda}"
        elif torch.version.hip:
            build = f"ROCm {torch.version.hip}"
        return {"version": torch.__version__, "built": build, "devices": torch.cuda.device_count()}
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
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the packages print is not ours to read
    for step in steps:
        try:
            result: StepResult = _try(step)
        except BaseException as error:  # noqa: BLE001  a package that calls exit() is broken, too
            status = getattr(getattr(error, "response", None), "status_code", None)
            result = {"error": first_line(error), "status": status}
        print(json.dumps({"step": step, **result}), file=results, flush=True)


if __name__ == "__main__":
    children.end_with_parent()
    _child(sys.argv[1:])
