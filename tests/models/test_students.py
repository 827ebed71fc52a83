"""Every student's preset: consistent in itself, sized as it says, and the six of the R1 table as published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distill import recipe
from distill.errors import InputError
from distill.models import presets
from distill.planning.choose import Workload, options
from distill.planning.setup import Hardware

NAMES = presets.names("student")
LARGE = [name for name in NAMES if name != "tiny"]
HARDWARE = re.compile(r"(?:(\d+) × )?(\d+) × (\d+) GB")
# arXiv 2501.12948v2, B.4.3, table 6: base model and initial learning rate
R1 = {
    "qwen2.5-math-1.5b": ("Qwen/Qwen2.5-Math-1.5B", 1e-4),
    "qwen2.5-math-7b": ("Qwen/Qwen2.5-Math-7B", 8e-5),
    "qwen2.5-14b": ("Qwen/Qwen2.5-14B", 7e-5),
    "qwen2.5-32b": ("Qwen/Qwen2.5-32B", 6e-5),
    "llama-3.1-8b": ("meta-llama/Llama-3.1-8B", 5e-5),
    "llama-3.3-70b-instruct": ("meta-llama/Llama-3.3-70B-Instruct", 2e-5),
}


def test_all_that_were_asked_for_are_there() -> None:
    sizes = ["1.5b", "3b", "7b", "14b", "32b", "72b"]
    wanted = {f"qwen2.5-{size}{kind}" for size in sizes for kind in ("", "-instruct")}
    wanted |= {f"qwen3-{size}-base" for size in ("0.6b", "1.7b", "4b", "8b", "14b")}
    wanted |= {"llama-3.2-1b", "llama-3.2-3b", "llama-3.1-70b", "tiny", *R1}
    assert wanted == set(NAMES)


@pytest.mark.parametrize("name", LARGE)
def test_names_and_facts_agree(name: str) -> None:
    found = presets.student(name)
    assert found.model.split("/")[1].lower() == name
    assert found.shape
    assert found.parameters == found.shape.parameters
    assert found.context == found.shape.max_position_embeddings
    assert found.shape.num_attention_heads % found.shape.num_key_value_heads == 0
    assert found.max_length
    assert found.max_length <= (found.rope.context if found.rope else found.context)
    assert found.precision == "bf16"
    assert found.recipe == "r1-distill"
    # the size in the name is the size in the file, as rounded as names are
    (size,) = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z0-9])", name)
    assert float(size) * 1e9 == pytest.approx(found.parameters, rel=0.25)
    qwen = found.model.startswith("Qwen/")
    assert found.template == ("think-chatml" if qwen else "think-llama3")
    assert (found.eos, found.pad) == (
        ("<|im_end|>", "<|endoftext|>") if qwen else ("<|eot_id|>", "<|finetune_right_pad_id|>")
    )


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_training_needs_is_left_out(name: str) -> None:
    found = presets.student(name)
    assert found.name == name
    assert found.licence
    assert found.learning_rate
    assert found.epochs
    assert found.max_length
    assert found.hardware
    assert found.description
    assert found.eos
    assert found.pad
    assert found.pad != found.eos, "padding would hide the end of a turn from the loss"
    assert found.parameters == presets.shape(found).parameters
    presets.template(found)


def test_every_model_has_one_preset() -> None:
    models = [presets.student(name).model for name in NAMES]
    assert len(set(models)) == len(models)
    assert presets.student("qwen2.5-7b").model == "Qwen/Qwen2.5-7B"
    assert presets.student("qwen2.5-math-7b").model == "Qwen/Qwen2.5-Math-7B"


@pytest.mark.parametrize("name", R1)
def test_r1_distill_with_a_student_is_a_row_of_the_table(name: str) -> None:
    model, rate = R1[name]
    found = recipe.load("r1-distill", option_changes={"student": name})
    student = presets.student(found.student)
    assert (student.model, student.learning_rate) == (model, rate)
    assert student.epochs
    assert 2 <= student.epochs <= 3
    assert (found.sft.learning_rate, found.sft.epochs) == (None, None), "the recipe leaves them to the student"
    assert found.sft.batch_size == 64
    assert found.sft.schedule == "cosine_with_min_lr"
    assert (found.sft.max_length, student.max_length) == (32768, 32768)


def test_only_the_short_bases_are_stretched() -> None:
    stretched = {name: presets.student(name).rope for name in NAMES if presets.student(name).rope}
    assert set(stretched) == {"qwen2.5-math-1.5b", "qwen2.5-math-7b"}
    for rope in stretched.values():
        assert rope
        assert (rope.theta, rope.context) == (300_000, 32_768), "as OpenR1-Distill-7B"


def test_licences_are_the_hubs_names() -> None:
    licences = {name: presets.student(name).licence for name in LARGE}
    special = {name: licence for name, licence in licences.items() if licence != "apache-2.0"}
    assert special == {
        **dict.fromkeys(("qwen2.5-3b", "qwen2.5-3b-instruct"), "qwen-research"),
        **dict.fromkeys(("qwen2.5-72b", "qwen2.5-72b-instruct"), "qwen"),
        **dict.fromkeys(("llama-3.1-8b", "llama-3.1-70b"), "llama3.1"),
        **dict.fromkeys(("llama-3.2-1b", "llama-3.2-3b"), "llama3.2"),
        "llama-3.3-70b-instruct": "llama3.3",
    }
    for name in special:
        assert "licence" in presets.student(name).description, "what it conditions"


@pytest.mark.parametrize("name", LARGE)
def test_a_hub_id_brings_what_the_name_brings(name: str) -> None:
    found = presets.student(name)
    assert presets.student(found.model) == found
    assert presets.student(found.model.lower()) == found


def test_any_other_model_brings_its_own_sizes_and_no_advice(tiny: Path) -> None:
    other = presets.student("some-org/Some-7B")
    assert (other.name, other.model) == ("some-7b", "some-org/Some-7B")
    assert (other.template, other.learning_rate, other.epochs, other.shape) == (None, None, None, None)
    assert presets.shape(presets.student(str(tiny / "base"))) == presets.shape(presets.student("tiny"))
    with pytest.raises(InputError, match=r"some-org/Some-7B|Some-7B"):
        presets.shape(other)  # the Hub cannot be reached here


@pytest.mark.parametrize("name", LARGE)
def test_the_hardware_in_words_is_what_the_plan_finds(name: str) -> None:
    """Full fine-tuning by the recipe on rows of full length, without the host's memory and 8-bit moments."""
    student, settings = presets.student(name), recipe.load("r1-distill").sft
    said = HARDWARE.fullmatch(student.hardware)
    assert said
    nodes, gpus, size = int(said[1] or 1), int(said[2]), int(said[3])
    job = Workload(batch=settings.batch_size, max_length=student.max_length)

    def fits(nodes: int, gpus: int) -> bool:
        hardware = Hardware(nodes=nodes, gpus=gpus, gpu_memory=size * 0.994)  # an "80 GB" H100 has 79.6 GiB
        ways = options(presets.shape(student), hardware, job)
        return any(way.fits and not way.setup.offload and way.setup.optimizer == "adamw" for way in ways)

    assert fits(nodes, gpus)
    if nodes * gpus > 1:
        assert not fits(nodes // 2 or 1, gpus if nodes > 1 else gpus // 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_transformers_builds_as_many_parameters_as_stated(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    student = presets.student(name)
    shape = presets.shape(student)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape.model_dump(exclude_none=True)))
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters == student.parameters
    linear = {path.rpartition(".")[2] for path, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    assert set(student.lora_targets) == linear - {"lm_head"}
    assert model.config.rope_parameters["rope_theta"] == shape.rope_theta
    assert model.config.rope_parameters["rope_type"] == (shape.rope_scaling or {}).get("rope_type", "default")
