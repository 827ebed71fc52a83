"""What a server is asked to be: which teacher, where, with which options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from distill.errors import InputError, from_validation, suggest
from distill.machine.slurm import Slurm
from distill.models import presets
from distill.models.model import Model
from distill.serving import Serving
from distill.settings import overrides

LAUNCHERS = ("here", "ray", "slurm")


@dataclass(frozen=True)
class ServeRequest:
    """A teacher to serve."""

    teacher: str
    """The preset's name, a Hub id or a path."""
    model: Model
    launcher: str
    """Where it runs: `here`, `ray` or `slurm`."""
    folder: Path
    """The run folder: logs and the batch script."""
    endpoints: Path
    """The absolute path of the file that names the addresses."""
    options: Serving
    cluster: Slurm
    changes: tuple[str, ...]
    """The changes from which `options` and `cluster` come, `name=value`, as a batch job passes them on."""


def request(
    teacher: str,
    launcher: str = "here",
    folder: Path | None = None,
    endpoints: Path | None = None,
    option_changes: Mapping[str, object] | None = None,
    changes: Sequence[str] = (),
) -> ServeRequest:
    """What is to be served, checked.

    Args:
        folder: the run folder; None: that of the teacher's recipe.
        endpoints: the file for the addresses; None: endpoints.txt in the run folder.
        option_changes: fields of `Serving` by name.
        changes: `serve.X=…` is an argument of vLLM, `slurm.X=…` of the batch script, the rest fields of `Serving`.

    Raises:
        InputError: unknown teacher, launcher or option.
    """
    if launcher not in LAUNCHERS:
        raise InputError(f"cannot serve on {launcher!r}", where="--on", fix=suggest(launcher, LAUNCHERS))
    preset = presets.teacher(teacher)
    run_folder = folder or Path("runs") / preset.recipe
    endpoints_path = (endpoints or run_folder / "endpoints.txt").absolute()
    options, cluster = read_options(option_changes or {}, changes)
    return ServeRequest(
        teacher, presets.as_model(preset), launcher, run_folder, endpoints_path, options, cluster, tuple(changes)
    )


def read_options(option_changes: Mapping[str, object], changes: Sequence[str]) -> tuple[Serving, Slurm]:
    """The servers' options and the batch job's.

    Raises:
        InputError: a change that cannot be read or does not fit.
    """
    arguments: dict[str, object] = {}
    cluster_options: dict[str, object] = {}
    own_options: dict[str, object] = {**option_changes}
    for change in changes:
        name, value = overrides.parse(change, form="name=value")
        group, dot, key = name.partition(".")
        if not dot:
            own_options[name] = value
        elif group == "serve":
            arguments[key] = value
        elif group == "slurm":
            cluster_options[key] = value
        else:
            raise InputError(f"--set {name}: no such group", fix="serve.ARGUMENT, slurm.OPTION, or one of ours")
    try:
        return Serving.model_validate({"serve": arguments, **own_options}), Slurm.model_validate(cluster_options)
    except ValidationError as error:
        model_class = Slurm if error.title == "Slurm" else Serving
        input_error = from_validation(error, "--set", "slurm" if model_class is Slurm else "", model_class)
        unknown = [str(item["loc"][-1]) for item in error.errors() if item["type"] == "extra_forbidden"]
        fix = suggest(unknown[0], model_class.model_fields) if unknown else None
        raise InputError(input_error.message, where="--set", fix=fix) from error
