"""Teachers and students by name: YAML with facts only, in recipes/teachers and recipes/students.

A reference is a preset's name, a path to a preset's .yaml, a local model folder, or a Hub id `org/name`. The Hub id of
a preset's model means that preset; any other brings no advice, and its sizes, context and template are the model's own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from distill import resources
from distill.errors import InputError, from_validation, suggest
from distill.models.hub_files import fetch
from distill.models.model import Model, Precision
from distill.models.reasoning import Tags
from distill.models.shapes import Shape, of_model
from distill.types import Record, Sampling


class Preset(Record):
    """Facts about a model that both roles share."""

    name: str
    description: str = ""
    model: str
    """Hub id, or a local folder (relative paths: to data/ for shipped presets)."""
    revision: str | None = None
    parameters: float | None = None
    active: float | None = None
    """Parameters used per token by a mixture of experts; None for a dense model."""
    precision: Precision | None = None
    """Number format of the published weights; with `parameters` it says what they take in memory."""
    heads: int | None = None
    """Attention heads; read from config.json when not given."""
    kv_heads: int | None = None
    """Key-value heads, 1 for latent attention (MLA); read from config.json when not given."""
    cache: int | None = None
    """Bytes of key-value cache per token in bf16: 2 · layers · kv_heads · head size · 2; with latent attention
    layers · (latent + rope size) · 2. Read from config.json when not given."""
    context: int | None = None
    """Longest prompt + completion, tokens; read from config.json when not given."""
    licence: str | None = None
    think: Tags = Tags()
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95)
    """The authors' advice; `max_tokens` is the longest output that they measured with or advise."""
    system_prompt: bool | None = None
    """False: the authors advise to use none and to put all instructions into the user's turn. None: no advice."""
    template: str | None = None
    """A chat template in recipes/templates that replaces the model's own."""
    serve: dict[str, Any] = {}
    """Arguments of `vllm serve`, by name without dashes. Parallel sizes follow from the hardware unless given here."""
    hardware: str = ""
    """The smallest hardware that `distill serve` would use, in words."""
    recipe: str = "r1-distill"
    """The recipe that this preset belongs to."""


class Teacher(Preset):
    problems: str | None = None
    """The teacher's default problem set."""


class Rope(Record):
    """How far a student's positions are stretched before training."""

    theta: float
    """Base of the rotary frequencies, in place of the published one."""
    context: int
    """`max_position_embeddings` after stretching, tokens."""


class Student(Preset):
    """`context` is the published one, `template` the one that it is trained and then served with."""

    shape: Shape | None = None
    """The student's sizes; read from config.json when not given, see `shape`."""
    eos: str | None = None
    """The token that ends a turn in `template`; the tokenizer's own when not given."""
    pad: str | None = None
    """The token that fills rows up, never one that is learnt; the tokenizer's own when not given."""
    rope: Rope | None = None
    """Stretched positions, for a base whose context is shorter than the traces."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate, for full fine-tuning with the batch size of `recipe`."""
    epochs: float | None = Field(None, gt=0)
    max_length: int | None = Field(None, ge=16)
    """Longest prompt + completion that the student is trained on, tokens."""
    lora_targets: tuple[str, ...] = ()
    """Linear layers that LoRA adapts; all of them when not given."""
    hardware: str = ""
    """The smallest hardware that trains all its weights on rows of `max_length` tokens, in words; LoRA needs less."""


P = TypeVar("P", bound=Preset)
Role = Literal["teacher", "student"]
_KINDS: dict[Role, type[Preset]] = {"teacher": Teacher, "student": Student}


def names(role: Role) -> list[str]:
    return resources.names(f"recipes/{role}s")


def teacher(ref: str) -> Teacher:
    return _find_preset(ref, "teacher", Teacher)


def student(ref: str) -> Student:
    return _find_preset(ref, "student", Student)


def _find_preset(ref: str, role: Role, preset_type: type[P]) -> P:
    folder = f"recipes/{role}s"
    if ref in names(role) or ref.endswith((".yaml", ".yml")):
        path = resources.find(folder, ref, role)
        try:
            preset = preset_type.model_validate(resources.load_yaml(path))
        except ValidationError as error:
            raise from_validation(error, str(path)) from error
        local = resources.folder("data") / preset.model
        if local.is_dir():
            return preset.model_copy(update={"model": str(local)})
        return preset
    if Path(ref).is_dir():
        if not (Path(ref) / "config.json").is_file():
            raise InputError(
                f"{ref} is no model folder: it has no config.json", fix="give a preset, a Hub id or a path"
            )
        return preset_type(name=Path(ref).resolve().name, model=ref)
    if ref.count("/") == 1 and not ref.startswith((".", "/")):
        preset_name = _preset_name(ref, role)
        if preset_name:
            return _find_preset(preset_name, role, preset_type)
        return preset_type(name=ref.split("/")[1].lower(), model=ref)
    raise InputError(f"unknown {role} {ref!r}", fix=suggest(ref, names(role)) + "; or a Hub id org/name, or a path")


def _preset_name(model: str, role: Role) -> str | None:
    """The name of the preset for a Hub id, so that the id brings the same template and advice as the name does."""
    folder = f"recipes/{role}s"
    for name in names(role):
        path = resources.find(folder, name, role)
        mentioned = model.lower() in path.read_text(encoding="utf-8").lower()  # parsing takes ten times as long
        if mentioned and str(resources.load_yaml(path).get("model")).lower() == model.lower():
            return name
    return None


def shape(student: Student) -> Shape:
    """A student's sizes: the preset's, else what its config.json says.

    Raises:
        InputError: there is no config.json, or it is of an architecture that cannot be counted.
    """
    return student.shape or of_model(student.model, student.revision)


def template(preset: Preset) -> str | None:
    """The text of the chat template that a preset names, or None for the model's own."""
    if preset.template is None:
        return None
    path = Path(preset.template)
    if not path.is_file():
        path = resources.folder("recipes") / "templates" / f"{preset.template}.jinja"
    if not path.is_file():
        shipped = resources.names("recipes/templates", "*.jinja")
        raise InputError(f"preset {preset.name}: no chat template {preset.template!r}", fix=suggest(path.stem, shipped))
    return path.read_text(encoding="utf-8")


def as_model(preset: Preset) -> Model:
    """The facts of a preset that a backend needs to serve it."""
    return Model(
        name=preset.name,
        path=preset.model,
        revision=preset.revision or weights_fingerprint(Path(preset.model)),
        parameters=preset.parameters,
        active=preset.active,
        precision=preset.precision,
        heads=preset.heads,
        kv_heads=preset.kv_heads,
        cache=preset.cache,
        context=preset.context or context_of(preset.model, preset.revision),
        tags=preset.think,
        sampling=preset.sampling,
        template=template(preset),
        serve=preset.serve,
    )


def context_of(model: str, revision: str | None = None) -> int:
    """`max_position_embeddings` of a model's config.json."""
    path = fetch(model, "config.json", revision)
    config = json.loads(path.read_text()) if path else {}
    config = config.get("text_config", config)
    if "max_position_embeddings" not in config:
        raise InputError("its config.json names no context length", where=model, fix="write a preset with `context:`")
    return int(config["max_position_embeddings"])


def sets_revision(role: Role, preset: Preset) -> bool:
    """Whether a preset's revision is its user's own choice and not what the shipped preset of that name says."""
    if preset.revision is None:
        return False
    return preset.name not in names(role) or _find_preset(preset.name, role, _KINDS[role]).revision != preset.revision


def weights_fingerprint_of(preset: Preset) -> str:
    """An identity of this preset's weights: the hash of a local folder, or the Hub id and revision."""
    local = weights_fingerprint(Path(preset.model))
    return local or f"{preset.model}@{preset.revision}"


def weights_fingerprint(folder: Path) -> str | None:
    """Hash of a local model: sizes, heads and tails of its files, as weights can be 100 GB; None on the Hub."""
    if not folder.is_dir():
        return None
    digest = hashlib.blake2b(digest_size=10)
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".jinja")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            if size > 2 << 20:
                file.seek(-(1 << 20), 2)
            digest.update(file.read())
    return digest.hexdigest()
