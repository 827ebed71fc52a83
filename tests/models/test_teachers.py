"""Every teacher's preset: consistent in itself, sized as it says, and a command line that vLLM itself understands."""

from __future__ import annotations

import re

import pytest

from distill.errors import InputError
from distill.machine.hardware import installed
from distill.models import presets
from distill.models.model import Model
from distill.serving.layout import Gpus, smallest_layout
from distill.serving.server_process import vllm_command

NAMES = presets.names("teacher")
LARGE = [name for name in NAMES if name != "tiny"]
HARDWARE = re.compile(r"(?:(\d+) × )??(\d+) × (?:\w+ )?(\d+) GB")


def as_model(name: str) -> Model:
    return presets.as_model(presets.teacher(name))


def sized(name: str, gpus: Gpus) -> Model:
    layout = smallest_layout(as_model(name), gpus)
    spanning = {"distributed-executor-backend": "ray"} if layout.gpus > gpus.per_node else {}
    model = as_model(name)
    return model.model_copy(update={"serve": {**layout.arguments(), **spanning, **model.serve}})


def node(gpus: int, gigabytes: int, nodes: int = 1) -> Gpus:
    return Gpus(per_node=gpus, memory=gigabytes * 0.994 * (1 << 30), nodes=nodes)  # an "80 GB" H100 has 79.6 GiB


def test_all_that_were_asked_for_are_there() -> None:
    distilled = ["qwen-1.5b", "qwen-7b", "qwen-14b", "qwen-32b", "llama-8b", "llama-70b"]
    wanted = {"deepseek-r1", "deepseek-r1-0528", "qwen3-8b", "qwen3-32b", "qwen3-235b-a22b", "qwq-32b", "tiny"}
    assert wanted | {f"deepseek-r1-distill-{size}" for size in distilled} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_facts_agree(name: str) -> None:
    found = presets.teacher(name)
    assert found.name == name
    assert name == "tiny" or found.model.split("/")[1].lower() == name
    assert found.parameters
    assert found.precision
    assert found.licence
    assert found.context
    assert found.sampling.max_tokens < found.context
    assert found.heads
    assert found.kv_heads
    assert found.heads % found.kv_heads == 0
    assert found.active is None or found.active < found.parameters
    assert (found.active is not None) == ("enable-expert-parallel" in found.serve)
    assert found.think.open == "<think>"
    assert (found.sampling.temperature, found.sampling.top_p) == (0.6, 0.95)
    assert (found.sampling.top_k == 20) == name.startswith(("qwen3", "qwq"))
    # the size in the name is the size in the file, as rounded as names are
    for size in re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z0-9])", name):
        assert float(size) * 1e9 == pytest.approx(found.parameters, rel=0.2)


@pytest.mark.parametrize("name", LARGE)
def test_the_hardware_in_words_is_what_serve_would_use(name: str) -> None:
    said = presets.teacher(name).hardware
    places = HARDWARE.findall(said)
    assert len(places) == said.count("GB")
    for nodes, gpus, size in places:
        whole = node(int(gpus), int(size), int(nodes or 1))
        layout = smallest_layout(as_model(name), whole)
        assert layout.gpus == int(gpus) * int(nodes or 1), f"{said}: {layout}"
        if int(gpus) > 1 and not nodes:
            with pytest.raises(InputError, match="does not fit"):
                smallest_layout(as_model(name), node(int(gpus) // 2, int(size)))


def test_r1_is_advised_without_a_system_prompt() -> None:
    assert presets.teacher("deepseek-r1").system_prompt is False
    assert presets.teacher("deepseek-r1-distill-qwen-7b").system_prompt is False
    assert presets.teacher("deepseek-r1-0528").system_prompt is None


@pytest.mark.vllm
@pytest.mark.skipif(not installed("vllm"), reason="vLLM is not installed")
def test_vllm_parses_every_command_line() -> None:
    """With vLLM's own parser, on H200 nodes and, spanning two of them where need be, on H100 nodes."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    except ImportError:  # before 0.32
        from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args
    parser = make_arg_parser(FlexibleArgumentParser())
    for name in NAMES:
        for gpus in (node(8, 141), node(8, 80, nodes=2)):
            model = sized(name, gpus)
            command = vllm_command(model, 8000, cpu=False, host="0.0.0.0")
            args = parser.parse_args(command[command.index("--disable-uvicorn-access-log") :])
            validate_parsed_serve_args(args)
            assert args.model == model.path
            assert args.max_model_len == model.context
            assert args.served_model_name in ([name], name)
            assert (args.enable_expert_parallel is True) == (model.active is not None)
            if name.startswith("deepseek-r1") and "distill" not in name:
                spanning = gpus.nodes > 1
                assert args.tensor_parallel_size == 8
                assert args.pipeline_parallel_size == (2 if spanning else 1)
                assert args.distributed_executor_backend == ("ray" if spanning else None)
