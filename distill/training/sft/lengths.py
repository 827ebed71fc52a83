"""Never truncate: what a length limit costs, told before training, and refused where it costs too much.

A cut trace teaches to think without an end, so a row that is too long is left out whole. The long ones are the traces
of the hard problems, which is why only few may go.
"""

from __future__ import annotations

from distill.errors import RunError
from distill.training.sft.rows import Built

MOST = 0.05
"""Share of the rows that may go unless told otherwise: up to the 95th percentile a limit trims the tail, beyond it the
mean length and the share of hard problems begin to move."""
_BAR = 40


def check(built: Built, max_length: int, most: float = MOST) -> None:
    """Stop where more than the share `most` of the rows is left out.

    Raises:
        RunError: says how much is lost, of which problem sets, and which `sft.max_length` would keep how much.
    """
    unfit = sum(found.count for found in built.unfit.values())
    lost = built.dropped + unfit
    if built.rows and lost <= most * built.of:
        return
    if not built.of:
        raise RunError("the set to train on has no rows", fix="loosen the filter's checks; `distill filter` shows them")
    parts = []
    if built.dropped:
        parts.append(f"{built.dropped:,} ({built.dropped / built.of:.1%}) are longer than {max_length:,} tokens")
        parts.append(f"by set: {_by_set(built)}")
    for found in built.unfit.values():
        parts.append(f"{found.count:,} cannot be trained on (first {found.first}): {found.what}")
    remedies = []
    if built.dropped:
        keeps = ", ".join(f"{length:,} keeps {_share(share)}" for length, share in _above(built, max_length))
        remedies.append(f"raise sft.max_length ({keeps}; activation memory grows with it, see `distill plan`)")
    if unfit > most * built.of:
        remedies.append("mend or filter those traces: they say what the student's template or tokens do not allow")
    if built.rows:
        remedies.append(f"accept the loss with --set sft.max_dropped={_up(lost / built.of)}")
    raise RunError(
        f"{lost:,} of {built.of:,} rows would be left out, more than sft.max_dropped allows ({most:.1%}); "
        + "; ".join(parts),
        fix="; or ".join(remedies),
    )


def table(built: Built, max_length: int) -> str:
    """Lengths as plain text: a histogram, what other limits would keep, what is left out of which set."""
    lines = [f"length of {sum(built.histogram.values()):,} rows, tokens"]
    most = max(built.histogram.values(), default=1)
    total = max(1, sum(built.histogram.values()))
    for upper, count in built.histogram.items():
        bar = "#" * round(_BAR * count / most)
        lines.append(f"  ≤ {upper:>7,}  {count:>11,}  {count / total:>6.1%}  {bar}".rstrip())
    lines.append(f"max_length {max_length:,} leaves out {built.dropped:,} ({built.dropped / total:.1%})")
    for length, share in built.keep_at.items():
        lines.append(f"  {length:>9,} would keep {_share(share):>6}")
    for name, (dropped, of) in built.dropped_by_set.items():
        if dropped:
            lines.append(f"  left out of {_name(name)}: {dropped:,} of {of:,} ({dropped / of:.1%})")
    for reason, found in built.unfit.items():
        lines.append(f"  left out as {reason}: {found.count:,}, first {found.first}: {found.what}")
    return "\n".join(lines)


def _by_set(built: Built, most: int = 5) -> str:
    """The sets that lose the largest share first."""
    losing = sorted(
        (-dropped / of, name, dropped, of) for name, (dropped, of) in built.dropped_by_set.items() if dropped
    )
    told = [f"{_name(name)} {dropped:,} of {of:,} ({-share:.1%})" for share, name, dropped, of in losing[:most]]
    return ", ".join(told) + (f" and {len(losing) - most} more" if len(losing) > most else "")


def _above(built: Built, max_length: int) -> list[tuple[int, float]]:
    return [(length, share) for length, share in built.keep_at.items() if length > max_length]


def _name(name: str) -> str:
    """Data sets name themselves: nothing of it may drive a terminal."""
    return (name if name.isprintable() else repr(name)) or "no set"


def _share(share: float) -> str:
    """A percentage that says 100.0 % only of all."""
    return "all" if share == 1 else f"{min(share, 0.999):.1%}"


def _up(share: float) -> float:
    """Rounded up to whole per cents."""
    return -(-share * 100 // 1) / 100
