"""Launch files and lines: what they say, and that DeepSpeed and accelerate read them so."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml

from distill.errors import InputError
from distill.planning import files, launch
from distill.planning.setup import Setup, Strategy

TWO_NODES = Setup(strategy="zero3", nodes=2, processes=16, sequence_parallel=4, accumulation=2)
STRATEGIES: tuple[Strategy, ...] = ("zero2", "zero3", "zero2-offload", "zero3-offload")


def test_the_two_files_agree_with_each_other_and_with_the_setup(tmp_path: Path) -> None:
    path = files.write(tmp_path / "new", TWO_NODES, attention="sdpa")
    told = yaml.safe_load(path.read_text())
    zero = json.loads(Path(told["deepspeed_config"]["deepspeed_config_file"]).read_text())["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert (told["num_machines"], told["num_processes"], told["use_cpu"]) == (2, 16, False)
    assert "mixed_precision" not in told  # accelerate refuses it beside a DeepSpeed file
    split = told["parallelism_config"]
    assert split["parallelism_config_sp_size"] * split["parallelism_config_dp_replicate_size"] == 16
    assert split["parallelism_config_sp_attn_implementation"] == "sdpa"


@pytest.mark.parametrize(("fast", "cpu", "gpu"), [(True, "bf16", "bf16"), (False, "no", "bf16")])
def test_autocast_is_left_out_where_a_cpu_is_slow_at_bf16(
    fast: bool, cpu: str, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.machine.hardware.multiplies_bf16", lambda: fast)
    for setup, precision in (
        (Setup(strategy="ddp", processes=2, cpu=True), cpu),
        (Setup(strategy="ddp", processes=2), gpu),
    ):
        assert files.accelerate_config(setup)["mixed_precision"] == precision


def test_one_process_and_ddp_need_no_deepspeed(tmp_path: Path) -> None:
    single, ddp = Setup(cpu=True), Setup(strategy="ddp", processes=2, cpu=True)
    assert files.accelerate_config(single)["distributed_type"] == "NO"
    assert files.accelerate_config(ddp)["distributed_type"] == "MULTI_GPU"
    path = files.write(tmp_path, ddp)
    assert yaml.safe_load(path.read_text())["use_cpu"] is True
    assert not (tmp_path / files.DEEPSPEED).exists()


def test_offloading_and_summing_are_said_to_deepspeed() -> None:
    plain = files.deepspeed_config(Setup(strategy="zero2", processes=8))
    assert "data_types" not in plain
    summed = files.deepspeed_config(Setup(strategy="zero2", processes=8, accumulation=4))
    assert summed["data_types"] == {"grad_accum_dtype": "fp32"}
    far = files.deepspeed_config(Setup(strategy="zero3-offload", processes=8))["zero_optimization"]
    assert far["offload_optimizer"]["device"] == far["offload_param"]["device"] == "cpu"
    assert "offload_param" not in files.deepspeed_config(Setup(strategy="zero2-offload", processes=8))


def test_the_nodes_of_a_job_must_know_where_they_meet() -> None:
    with pytest.raises(InputError, match="DISTILL_MASTER"):
        launch.command(TWO_NODES, Path("a.yaml"), ["-m", "x"])
    line = launch.command(TWO_NODES, Path("a.yaml"), ["-m", "x", "j.json"], master="n0", port=1234, rank=1)
    assert line[:4] == [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    assert line[-3:] == ["-m", "x", "j.json"]
    assert "static" in line


_READ = """
import json, os, sys
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from deepspeed.runtime.config import DeepSpeedConfig

found = []
for line, processes in json.load(sys.stdin):
    args = launch_command_parser().parse_args(line)
    args, defaults, _ = _validate_launch_command(args)
    row = {"kind": str(defaults.distributed_type), "deepspeed": args.use_deepspeed}
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, env = prepare_deepspeed_cmd_env(args)
        raw = json.load(open(env["ACCELERATE_DEEPSPEED_CONFIG_FILE"]))
        # what transformers fills in
        raw.update(train_batch_size=8, train_micro_batch_size_per_gpu=2, gradient_accumulation_steps=4)
        raw["gradient_clipping"] = 1.0
        zero = raw["zero_optimization"]
        zero.update({key: 4096 for key, value in zero.items() if value == "auto"})
        read = DeepSpeedConfig(raw)
        row["stage"] = int(read.zero_config.stage)
        row["offloads"] = read.zero_config.offload_optimizer is not None
        row["bf16"] = read.bfloat16_config.enabled
        row["gathers"] = read.zero_config.gather_16bit_weights_on_model_save
        row["sums_in"] = str(read.grad_accum_dtype)
        row["shared"] = env.get("PARALLELISM_CONFIG_SP_SIZE", "1")
    else:
        env = prepare_multi_gpu_env(args)
    row["words"] = [args.module, args.training_script, *args.training_script_args]
    row["processes"], row["nodes"] = int(args.nproc_per_node), args.num_machines
    row["meet"] = getattr(args, "rdzv_endpoint", None)
    row["backend"] = args.rdzv_backend
    found.append(row)
print("READ" + json.dumps(found))
"""


@pytest.mark.integration
def test_deepspeed_and_accelerate_read_them_with_their_own_classes(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    setups = [
        Setup(
            strategy=strategy,
            processes=8,
            nodes=nodes,
            sequence_parallel=shared,
            accumulation=4,
            optimizer="adamw" if strategy.endswith("offload") else "paged_adamw_8bit",
        )
        for strategy, nodes, shared in product(STRATEGIES, (1, 2), (1, 2))
    ]
    setups.append(Setup(strategy="ddp", processes=2, cpu=True))
    asked = []
    for number, setup in enumerate(setups):
        path = files.write(tmp_path / str(number), setup)
        several = {"master": "127.0.0.1", "port": 29511, "rank": 1} if setup.nodes > 1 else {}
        line = launch.command(setup, path, ["-m", "some.module", "--its", "own"], **several)  # type: ignore[arg-type]
        asked.append([line[3:], setup.processes])
    words = [sys.executable, "-c", _READ]
    done = subprocess.run(words, check=False, input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("READ"))[4:])
    for setup, row in zip(setups, rows, strict=True):
        assert row["words"] == [True, "some.module", "--its", "own"]
        assert row["processes"] * setup.nodes == setup.processes
        assert row["nodes"] == setup.nodes
        assert row["deepspeed"] == bool(setup.zero)
        if setup.nodes > 1:
            assert (row["meet"], row["backend"]) == ("127.0.0.1:29511", "static")
        if setup.zero:
            assert (row["stage"], row["offloads"], row["bf16"]) == (setup.zero, setup.offload, True)
            assert row["gathers"] == (setup.zero == 3)
            assert int(row["shared"]) == setup.sequence_parallel
            assert ("fp32" in row["sums_in"]) != setup.offload
