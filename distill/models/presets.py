"""Teachers and students by name: YAML with facts only, in recipes/teachers and recipes/students.

A reference is a preset's name, a path to a preset's .yaml, a local model folder, or a Hub id `org/name`. The Hub id of
a preset's model means that preset; any other brings no advice, and its sizes, context and template are the model's own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from distill import resources
from distill.errors import InputError, from_validation, suggest
from distill.models.hub_files import fetch
from distill.models.model import Model, Precision
from distill.models.reasoning import Tags
from distill.models.shapes import Shape, of_model
from distill.progress import LOG
from distill.settings.identity import Settings, settings_of
from distill.types import NO_RESULT, Record, Sampling


class Preset(Record):
    """Facts about a model that both roles share."""

    name: str
    """Name by which a recipe calls the model."""
    description: Annotated[str, NO_RESULT] = ""
    """Note on the model for people."""
    model: Annotated[str, NO_RESULT]
    """Model as a Hub id, or a local folder (relative paths: to data/ for shipped presets)."""
    revision: Annotated[str | None, NO_RESULT] = None
    """Commit or branch of the model on the Hub; None takes the newest."""
    parameters: Annotated[float | None, NO_RESULT] = None
    """Number of the model's parameters; None where it is not known."""
    active: Annotated[float | None, NO_RESULT] = None
    """Parameters used per token by a mixture of experts; None for a dense model."""
    precision: Annotated[Precision | None, NO_RESULT] = None
    """Number format of the published weights, which with `parameters` says what they take in memory; None where it is
    not known."""
    heads: Annotated[int | None, NO_RESULT] = None
    """Number of attention heads; None reads it from config.json."""
    kv_heads: Annotated[int | None, NO_RESULT] = None
    """Number of key-value heads, 1 for latent attention (MLA); None reads it from config.json."""
    cache: Annotated[int | None, NO_RESULT] = None
    """Bytes of key-value cache per token in bf16: 2 · layers · kv_heads · head size · 2; with latent attention layers ·
    (latent + rope size) · 2. None reads the sizes from config.json."""
    context: int | None = None
    """Longest prompt + completion in tokens; None reads it from config.json."""
    licence: Annotated[str | None, NO_RESULT] = None
    """Licence of the weights, by its short name; None where it is not known."""
    think: Tags = Tags()
    """Tags between which the model reasons."""
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95)
    """Sampling parameters that the authors advise; `max_tokens` is the longest output that they measured with or
    advise."""
    system_prompt: bool | None = None
    """Whether a system prompt does good; false: the authors advise to put all instructions into the user's turn. None:
    no advice."""
    template: str | None = None
    """Name of a chat template in recipes/templates that replaces the model's own; None keeps that."""
    serve: Annotated[dict[str, object], NO_RESULT] = {}
    """Arguments of `vllm serve`, by name without dashes. Parallel sizes follow from the hardware unless given here."""
    hardware: Annotated[str, NO_RESULT] = ""
    """Description of the smallest hardware that `distill serve` would use."""
    recipe: Annotated[str, NO_RESULT] = "r1-distill"
    """Name of the recipe that the preset belongs to."""


class Teacher(Preset):
    problems: str | None = None
    """The teacher's default problem set."""


class Rope(Record):
    """How far a student's positions are stretched before training."""

    theta: float
    """Base of the rotary frequencies, in place of the published one."""
    context: int
    """Number of positions in tokens after stretching (`max_position_embeddings`)."""


class Student(Preset):
    """`context` is the published one, `template` the one that it is trained and then served with."""

    shape: Annotated[Shape | None, NO_RESULT] = None
    """Sizes of the student's layers; None reads them from config.json."""
    eos: str | None = None
    """Token that ends a turn in `template`; None takes the tokenizer's own."""
    pad: str | None = None
    """Token that fills rows up, never one that is learnt; None takes the tokenizer's own."""
    rope: Rope | None = None
    """Stretched positions, for a base whose context is shorter than the traces; None keeps the published ones."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate for full fine-tuning with the batch size of `recipe`; None leaves it to the recipe."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training set; None leaves them to the recipe."""
    max_length: int | None = Field(None, ge=16)
    """Longest prompt + completion in tokens that the student is trained on; None takes the context up to 32,768."""
    lora_targets: tuple[str, ...] = ()
    """Names of the linear layers that LoRA adapts; none means all."""
    hardware: Annotated[str, NO_RESULT] = ""
    """Description of the smallest hardware that trains all weights on rows of `max_length` tokens; LoRA needs less."""


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
            raise from_validation(error, str(path), config=preset_type) from error
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


def at_logged_revision(role: Role, preset: Preset, model: Model, logged: tuple[str, str | None], log: Path) -> Model:
    """The model of a preset at the revision that a log has, where only the shipped preset has moved on since.

    A revision that the user chose stands, and so does what a local folder holds.

    Args:
        logged: name and revision of the model that the log's traces came from.
    """
    name, revision = logged
    if name != model.name or revision == model.revision or sets_revision(role, preset) or Path(model.path).is_dir():
        return model
    LOG.info(
        "goes on with revision %s of %s, as in %s; the preset names %s by now", revision, name, log, model.revision
    )
    return model.model_copy(update={"revision": revision})


def identity_of(role: Role, preset: Preset) -> Settings:
    """The facts of a preset that can change a result, its weights by their content and not by their folder.

    Weights on the Hub count with the revision that a user chose; that a later version ships the preset with another
    revision makes no finished work stale.
    """
    weights = weights_fingerprint_of(preset) if sets_revision(role, preset) else None
    return {"weights": weights or weights_fingerprint(Path(preset.model)) or preset.model, **settings_of(preset)}


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
