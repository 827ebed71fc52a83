"""Which backend is chosen, and what is said where none will do."""

from __future__ import annotations

import pytest

from distill.backends import ChosenBackend
from distill.errors import InputError
from distill.models import presets
from distill.sampling import choose_backend, serve_command


def test_gpus_that_are_too_small_are_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.machine.hardware.gpu_memory", lambda: {str(i): 80 << 30 for i in range(8)})
    r1, qwq = (presets.as_model(presets.teacher(name)) for name in ("deepseek-r1", "qwq-32b"))
    wanted = (
        r"(?s)does not fit on 8 × 86 GB.*; it needs 8 × H200.*distill serve --teacher deepseek-r1 --host.*--endpoint"
    )
    with pytest.raises(InputError, match=wanted):
        choose_backend(ChosenBackend.of({"kind": "auto"}), r1, "8 × H200 141 GB")
    assert choose_backend(ChosenBackend.of({"kind": "auto"}), qwq).kind in ("vllm", "transformers")


def test_servers_elsewhere_need_no_gpu_here() -> None:
    r1 = presets.as_model(presets.teacher("deepseek-r1"))
    assert choose_backend(ChosenBackend.of({"endpoints_file": "e.txt"}), r1).plain == {
        "kind": "vllm",
        "endpoints_file": "e.txt",
    }


def test_the_plain_command_is_cut_for_the_usual_node_that_holds_the_model() -> None:
    def tensor(name: str) -> str | None:
        words = serve_command(presets.as_model(presets.teacher(name)))
        return words[words.index("--tensor-parallel-size") + 1] if "--tensor-parallel-size" in words else None

    assert tensor("deepseek-r1") == "8"
    assert tensor("qwq-32b") == "2"
    assert tensor("deepseek-r1-distill-qwen-7b") is None
