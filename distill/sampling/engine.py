"""Which backend samples a model here, and what to do when none can."""

from __future__ import annotations

import shlex

from distill.backends import ChosenBackend
from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.models.model import Model
from distill.serving.layout import SMALL, Gpus, Layout, smallest_layout
from distill.serving.server_process import serving_arguments

__all__ = ["SMALL", "choose_backend", "serve_command"]

_USUAL_NODES = [
    Gpus(per_node=8, memory=size * 1e9) for size in (85, 150)
]  # 8 × 80 GB (A100, H100) and 8 × 141 GB (H200)


def choose_backend(chosen: ChosenBackend, model: Model, needs: str = "") -> ChosenBackend:
    """A recipe's backend with `kind: auto` replaced by what this machine can do.

    vLLM when it is installed, else transformers; a model above 2B parameters wants a GPU or an endpoint.

    Args:
        needs: the hardware that the model wants, in words, for the error.

    Raises:
        InputError: the model cannot be sampled here; says how to serve it elsewhere.
    """
    if chosen.kind != ChosenBackend.default:
        return chosen
    if chosen.is_served:
        return chosen.as_kind("vllm")
    if (model.parameters or 0) > SMALL:
        _check_gpus(model, needs)
    return chosen.as_kind("vllm" if hardware.installed("vllm") else "transformers")


def _check_gpus(model: Model, needs: str) -> None:
    """Refuse a model that this machine's GPUs cannot hold.

    Raises:
        InputError: no GPU, or too little memory in them.
    """
    memory = hardware.gpu_memory()
    if memory:
        local_gpus = Gpus(per_node=len(memory), memory=min(memory.values()))
        try:
            smallest_layout(model, local_gpus)
        except InputError as error:
            message = f"{error.message}; it needs {needs}" if needs else error.message
            raise InputError(message, fix=_how_to_serve(model)) from error
    elif not hardware.gpus():
        detail = f" ({needs})" if needs else ""
        raise InputError(
            f"{model.name} ({model.path}, {model.parameters or 0:,.0f} parameters) needs GPUs{detail}"
            " and this machine has none",
            fix=_how_to_serve(model),
        )


def _how_to_serve(model: Model) -> str:
    teacher = model.name if model.name in presets.names("teacher") else model.path
    return (
        "start it where they are (on several machines with --on ray or --on slurm), then sample it from here:\n"
        f"      distill serve --teacher {shlex.quote(teacher)} --host 0.0.0.0\n"
        f"      or without distill: {shlex.join(serve_command(model))}\n"
        "      … --endpoint http://HOST:8000"
    )


def serve_command(model: Model) -> list[str]:
    """The `vllm serve` command line for a model, cut for the usual node of 8 GPUs that holds it."""
    sizes = {}
    if model.parameters and model.heads:
        sizes = _usual_layout(model).arguments()
    return [
        "vllm",
        "serve",
        model.path,
        *serving_arguments(model.model_copy(update={"serve": {**sizes, **model.serve}})),
    ]


def _usual_layout(model: Model) -> Layout:
    for node in _USUAL_NODES:
        try:
            return smallest_layout(model, node)
        except InputError:
            continue
    return Layout(tensor=8)
