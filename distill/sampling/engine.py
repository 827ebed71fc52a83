"""Which backend samples a model here, and what to do when none can."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from distill import hardware
from distill.backends import Model
from distill.backends._server import serving
from distill.errors import InputError

SMALL = 2e9
"""Parameters up to which a CPU is worth trying."""


def choose(options: Mapping[str, Any], model: Model, needs: str = "") -> dict[str, Any]:
    """Backend options with `kind: auto` replaced by what this machine can do.

    vLLM when it is installed, else transformers; a model above 2B parameters wants a GPU or an endpoint.

    Args:
        needs: the hardware that the model wants, in words, for the error.

    Raises:
        InputError: the model cannot be sampled here; says how to serve it elsewhere.
    """
    kind = options.get("kind", "auto")
    rest = {name: value for name, value in options.items() if name != "kind"}
    if kind != "auto":
        return {"kind": kind, **rest}
    if rest.get("endpoints"):
        return {"kind": "vllm", **rest}
    if (model.parameters or 0) > SMALL and not hardware.gpus():
        raise InputError(
            f"{model.name} ({model.path}, {model.parameters or 0:,.0f} parameters) needs GPUs"
            f"{f' ({needs})' if needs else ''} and this machine has none",
            fix="serve it where they are, then join it from here:\n"
            f"      {shlex.join(serve_command(model))}\n"
            "      … --endpoint http://HOST:8000",
        )
    return {"kind": "vllm" if hardware.installed("vllm") else "transformers", **rest}


def serve_command(model: Model) -> list[str]:
    """The `vllm serve` command line for a model."""
    return ["vllm", "serve", model.path, *serving(model)]
