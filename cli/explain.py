"""The table of `distill settings`, and the JSON schema of recipes."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from distill.explaining import places, schema
from distill.explaining.places import Setting

_NARROW = 100
"""Columns below which a meaning stands under its setting, where it has the whole width."""


def print_settings(place: str) -> None:
    """Print what is directly below a dotted place, or the one setting that is there."""
    listed = places.below(place)
    console = Console()
    table = _table(listed)
    if not console.is_terminal:  # a file or another program has no width
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, unbounded, table).maximum)
    if console.width < _NARROW:
        for setting in listed:
            _print_stacked(console, setting)
    else:
        console.print(table)
    for note in _notes(listed):
        console.print(note, highlight=False, markup=False, style="dim")


def print_schema() -> None:
    """Print the JSON schema of recipes as the file recipes/recipe.schema.json holds it."""
    sys.stdout.write(schema.text())


def _table(listed: list[Setting]) -> Table:
    table = Table("setting", "type", "default", "meaning", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].min_width = max(len(setting.name) for setting in listed)  # a name is there to be typed
    for setting in listed:
        table.add_row(*map(Text, (setting.name, setting.type, setting.default, setting.meaning)))
    return table


def _print_stacked(console: Console, setting: Setting) -> None:
    default = f", default {setting.default}" if setting.default not in ("", "required") else ""
    required = ", required" if setting.default == "required" else ""
    head = Text(setting.name, style="bold")
    head.append(f"  {setting.type}{default}{required}", style="not bold")
    console.print(head)
    console.print(Padding(Text(setting.meaning), (0, 0, 0, 2)))


def _notes(listed: list[Setting]) -> list[str]:
    notes = []
    if any(setting.default == "None" for setting in listed):
        notes.append("None is written `null`.")
    groups = [setting.place for setting in listed if setting.is_group]
    if groups:
        notes.append(f"`distill settings {groups[0]}` shows what is in it.")
    kinds_place = listed[0].place.rpartition(".")[0]
    if kinds_place in places.FAMILIES and kinds_place not in places.NAMED_KINDS:
        notes.append(f"A kind is chosen by `kind`, beside its settings: {{kind: {listed[0].name}, …}}.")
    return notes
