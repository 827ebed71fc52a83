"""`distill ls`: what can be named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from distill import plugins
from distill import recipe as recipes
from distill.errors import InputError, suggest
from distill.models import presets
from distill.problems import sets
from distill.run import Run

Rows = Iterator[tuple[str, ...]]


def ls(category: str) -> None:
    """Print a table of what a category, such as `students`, has."""
    listing = LISTINGS.get(category)
    if listing is None:
        raise InputError(f"cannot list {category!r}", fix=suggest(category, LISTINGS))
    headings, rows = listing
    table = Table(*headings, box=None, pad_edge=False)
    listed = list(rows())
    table.columns[0].min_width = max((len(row[0]) for row in listed), default=0)  # a name is there to be typed
    for column in table.columns:
        column.overflow = "fold"  # an id that is cut can be neither read nor typed
    for row in listed:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:  # a file or another program has no width
        unbounded = console.options.update(max_width=1000)
        console.width = max(console.width, Measurement.get(console, unbounded, table).maximum)
    console.print(table)


def _teachers() -> Rows:
    for name in presets.names("teacher"):
        preset = presets.teacher(name)
        size = f"{_size(preset.parameters)} {preset.precision or ''}"
        yield name, size, _thousands(preset.context), preset.licence or "", preset.hardware


def _students() -> Rows:
    for name in presets.names("student"):
        preset = presets.student(name)
        stretched = f" → {_thousands(preset.rope.context)}" if preset.rope else ""
        advice = ""
        if preset.learning_rate:
            advice = f"{preset.learning_rate:.0e} × {preset.epochs:g}".replace("e-0", "e-")
        is_shipped = Path(preset.model).is_dir()  # its path on this machine is no id
        model = "shipped" if is_shipped else preset.model
        context = _thousands(preset.context) + stretched
        yield name, model, _size(preset.parameters), context, preset.licence or "", advice, preset.hardware


def _problems() -> Rows:
    for name in sets.shipped_sets():
        problem_set, _, _ = sets.find(name)
        splits = ", ".join(problem_set.splits)
        verifier = str(problem_set.verifier["kind"])
        yield name, splits, verifier, problem_set.licence or "", problem_set.description


def _recipes() -> Rows:
    for name in recipes.names():
        recipe = recipes.load(name)
        yield name, recipe.teacher, recipe.student, recipe.description


def _kinds(family: str) -> Callable[[], Rows]:
    def rows() -> Rows:
        for name in plugins.names(family):
            yield name, plugins.describe(family, name)

    return rows


def _runs() -> Rows:
    of_studies = Path("runs").glob("*/*/run.json")
    for folder in sorted([*Path("runs").glob("*/run.json"), *of_studies]):
        state = Run(folder.parent).state()
        yield str(folder.parent), state.get("recipe", {}).get("name", "?"), ", ".join(state.get("stages", {})) or "none"


def _size(parameters: float | None) -> str:
    if parameters is None:
        return ""
    if parameters < 1e8:
        return f"{parameters / 1e6:,.3g}M"
    return f"{parameters / 1e9:,.4g}B"


def _thousands(tokens: int | None) -> str:
    return f"{tokens / 1024:.0f}k" if tokens else ""


_STUDENT = ("name", "model", "size", "context", "licence", "rate × epochs", "smallest hardware")
LISTINGS: dict[str, tuple[tuple[str, ...], Callable[[], Rows]]] = {
    "teachers": (("name", "size", "context", "licence", "smallest hardware"), _teachers),
    "students": (_STUDENT, _students),
    "problems": (("name", "splits", "verifier", "licence", ""), _problems),
    "verifiers": (("name", ""), _kinds("verifiers")),
    "filters": (("name", ""), _kinds("filters")),
    "rewards": (("name", ""), _kinds("rewards")),
    "backends": (("name", ""), _kinds("backends")),
    "recipes": (("name", "teacher", "student", ""), _recipes),
    "runs": (("folder", "recipe", "finished stages"), _runs),
}
