"""The layout's rules: no upward imports, no torch at import time, no grab-bags."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distill import plugins

ROOT = Path(__file__).parent.parent
# a room may import from those in the lines above its own, never from its own line or from below
LAYERS = [
    {"types", "errors", "settings", "progress", "resources", "plugins"},
    {"store", "machine", "text"},
    {"run", "models", "sandbox"},
    {"endpoints", "answers", "planning"},
    {"serving", "programs", "sources"},
    {"backends"},
    {"judges"},
    {"verifiers"},
    {"problems"},
    {"filters"},
    {"rewards", "sampling", "filtering"},
    {"rollouts", "evaluation"},
    {"training", "publishing", "reporting"},
    {"stages"},
    {"recipe"},
    {"explaining"},
    {"pipeline"},
    {"batch", "study", "doctor"},
    {"api"},
]
GROUND = LAYERS[0]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(
    path for path in (ROOT / "distill").rglob("*.py") if path.parent.name != "distill" or path.stem != "__init__"
)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "distill":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distill."):
            found.add(str(node.module).removeprefix("distill."))
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("distill.") for alias in node.names if alias.name.startswith("distill.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_imports_from_a_higher_layer(path: Path) -> None:
    own = path.relative_to(ROOT / "distill").with_suffix("").parts
    assert own[0] in RANK, f"{own[0]} is in no layer: add it to LAYERS"
    for name in imports(path):
        top = name.split(".")[0]
        assert top != "cli", f"{path.name} imports the command line"
        lower = RANK[top] < RANK[own[0]] or top == own[0] or {top, own[0]} <= GROUND
        assert lower, f"{path.name} imports {name}, which is not in a lower layer"
        if own[0] == top == "stages" and "." in name:
            pytest.fail(f"stage {path.name} imports stage {name}")


def test_importing_everything_loads_neither_torch_nor_vllm() -> None:
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in MODULES]
    printing = ["distill.cli.stages", "distill.cli.batch", "distill.cli.traces", "distill.cli.listing"]
    code = (
        f"import importlib, sys\nfor name in {[*names, *printing]}:"
        " importlib.import_module(name)\n"
        "heavy = {'torch', 'vllm', 'trl', 'transformers', 'datasets', 'aiohttp', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys\nfrom distill.cli import main\nsys.argv = ['distill', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'vllm', 'pydantic', 'yaml', 'datasets'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "distill run tiny" in done.stdout


def test_every_package_folder_is_found_and_says_what_it_is_for() -> None:
    packages = {path.parent for path in MODULES if path.stem == "__init__"}
    for folder in {path.parent for path in MODULES} - {ROOT / "distill"}:
        assert folder in packages, f"{folder.name}/ has no __init__.py, so setuptools does not ship it"
        door = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        assert door, f"{folder.name}/__init__.py does not say what the room is for"


def test_files_stay_small_and_named_for_one_thing() -> None:
    for path in MODULES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert path.stem not in ("utils", "helpers", "common", "misc")
        limit = 180 if path.parent.name in ("verifiers", "filters", "backends") else 330
        assert lines <= limit, f"{path.name} has {lines} lines"


def test_the_tree_in_contributing_is_the_tree() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.split("## The tree")[1].split("```")[1]
    package = ROOT / "distill"
    top = {p.name for p in package.glob("*.py")} - {"__init__.py"}
    top |= {f"{p.name}/" for p in package.iterdir() if (p / "__init__.py").exists() and not p.is_symlink()}
    assert set(re.findall(r"^  (\w+\.py|\w+/) ", tree, re.MULTILINE)) == top
    inner = {f"{p.parent.name}/" for p in package.glob("*/*/__init__.py") if not p.parent.parent.is_symlink()}
    assert set(re.findall(r"^    (\w+/) ", tree, re.MULTILINE)) == inner
    for family in ("verifiers", "filters", "backends", "rewards"):
        line = next(line for line in tree.splitlines() if line.startswith(f"  {family}/"))
        assert set(re.findall(r"\w+", line.split("/", 1)[1])) == set(plugins.names(family))


def test_there_is_one_logger_and_one_place_that_makes_handlers() -> None:
    for path in MODULES:
        if path.relative_to(ROOT / "distill") == Path("progress.py"):
            continue
        text = path.read_text(encoding="utf-8")
        # other packages' loggers may be silenced
        made = re.search(r"""getLogger\((?!["'](?!distill))|(?:Stream|File)Handler\(|\baddHandler\(""", text)
        assert not made, f"{path.name} has {made and made[0]}: use distill.progress.LOG, log_to and log_to_stderr"


def test_files_are_replaced_in_one_way() -> None:
    """What is renamed into place by hand is rarely synced first."""
    by_hand = {
        "replacing.py",
        "log_parts.py",  # two files in an order of its own
        "filter.py",  # an interrupted ledger is kept, for its verdicts
        "saving.py",  # adapters become a folder inside the merged model
    }
    for path in MODULES:
        if path.name not in by_hand:
            text = path.read_text(encoding="utf-8")
            assert "os.replace(" not in text, f"{path.name} replaces a file: use distill.store.replacing"


def test_no_class_name_means_two_things() -> None:
    classes: dict[str, list[str]] = {}
    for path in [*MODULES, *sorted((ROOT / "cli").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name != "Config":
                classes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in classes.items() if len(paths) > 1}


def test_no_text_of_the_project_names_a_machine() -> None:
    """Absolute paths of one machine and package hosts have no place in what ships."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for name in listed.stdout.split("\n"):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".txt", ".json", ".jinja", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            found = re.search(r"/(?:work|root|home)/[a-z]|pypi\.|files\.pythonhosted|registry\.npmjs", text)
            assert not found or path == Path(__file__), f"{name}: {found and found[0]}"
