"""Never truncate: what a length limit costs, told before training, and refused where it costs too much.

A cut trace teaches to think without an end, so a row that is too long is left out whole. The long ones are the traces
of the hard problems, which is why only few may go.
"""

from __future__ import annotations

from distill.errors import RunError
from distill.training.sft.rows import BuiltRows

MAX_DROPPED = 0.05
"""Share of the rows that may go unless told otherwise: up to the 95th percentile a limit trims the tail, beyond it the
mean length and the share of hard problems begin to move."""
_BAR_WIDTH = 40


def check(built: BuiltRows, max_length: int, max_dropped: float = MAX_DROPPED) -> None:
    """Stop where more than the share `max_dropped` of the rows is left out.

    Raises:
        RunError: says how much is lost, of which problem sets, and which `sft.max_length` would keep how much.
    """
    unfit_count = sum(unfit_rows.count for unfit_rows in built.unfit.values())
    left_out = built.dropped + unfit_count
    if built.rows and left_out <= max_dropped * built.of:
        return
    if not built.of:
        raise RunError("the set to train on has no rows", fix="loosen the filter's checks; `distill filter` shows them")
    parts = []
    if built.dropped:
        parts.append(f"{built.dropped:,} ({built.dropped / built.of:.1%}) are longer than {max_length:,} tokens")
        parts.append(f"by set: {_by_set(built)}")
    for unfit_rows in built.unfit.values():
        parts.append(f"{unfit_rows.count:,} cannot be trained on (first {unfit_rows.first}): {unfit_rows.what}")
    remedies = []
    if built.dropped:
        longer = [(length, share) for length, share in built.keep_at.items() if length > max_length]
        keeps = ", ".join(f"{length:,} keeps {_percentage(share)}" for length, share in longer)
        remedies.append(f"raise sft.max_length ({keeps}; activation memory grows with it, see `distill plan`)")
    if unfit_count > max_dropped * built.of:
        remedies.append("mend or filter those traces: they say what the student's template or tokens do not allow")
    if built.rows:
        remedies.append(f"accept the loss with --set sft.max_dropped={_rounded_up(left_out / built.of)}")
    raise RunError(
        f"{left_out:,} of {built.of:,} rows would be left out, more than sft.max_dropped allows ({max_dropped:.1%}); "
        + "; ".join(parts),
        fix="; or ".join(remedies),
    )


def table(built: BuiltRows, max_length: int) -> str:
    """Lengths as plain text: a histogram, what other limits would keep, what is left out of which set."""
    lines = [f"length of {sum(built.histogram.values()):,} rows, tokens"]
    tallest = max(built.histogram.values(), default=1)
    total = max(1, sum(built.histogram.values()))
    for upper, count in built.histogram.items():
        bar = "#" * round(_BAR_WIDTH * count / tallest)
        lines.append(f"  ≤ {upper:>7,}  {count:>11,}  {count / total:>6.1%}  {bar}".rstrip())
    lines.append(f"max_length {max_length:,} leaves out {built.dropped:,} ({built.dropped / total:.1%})")
    for length, share in built.keep_at.items():
        lines.append(f"  {length:>9,} would keep {_percentage(share):>6}")
    for name, (dropped, total_of_set) in built.dropped_by_set.items():
        if dropped:
            share = dropped / total_of_set
            lines.append(f"  left out of {_printable(name)}: {dropped:,} of {total_of_set:,} ({share:.1%})")
    for reason, unfit_rows in built.unfit.items():
        lines.append(f"  left out as {reason}: {unfit_rows.count:,}, first {unfit_rows.first}: {unfit_rows.what}")
    return "\n".join(lines)


def _by_set(built: BuiltRows, limit: int = 5) -> str:
    """The sets that lose the largest share first."""
    losing = sorted(
        (-dropped / total, name, dropped, total) for name, (dropped, total) in built.dropped_by_set.items() if dropped
    )
    text = ", ".join(
        f"{_printable(name)} {dropped:,} of {total:,} ({-share:.1%})" for share, name, dropped, total in losing[:limit]
    )
    if len(losing) > limit:
        text += f" and {len(losing) - limit} more"
    return text


def _printable(name: str) -> str:
    """A data set's name made plain: sets name themselves, and nothing of it may drive a terminal."""
    if not name:
        return "no set"
    return name if name.isprintable() else repr(name)


def _percentage(share: float) -> str:
    """A percentage that says 100.0 % only of all."""
    return "all" if share == 1 else f"{min(share, 0.999):.1%}"


def _rounded_up(share: float) -> float:
    """A share rounded up to whole per cents."""
    return -(-share * 100 // 1) / 100
