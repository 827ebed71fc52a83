"""What an answer to a maths problem says, and when two answers are equal.

`marked` finds an answer in tags or a box, `final` also an unmarked one, `plain` for kinds without LaTeX. `latex`
compares two strings after normalising them (`symbols`): by their parts (`structure`), as numbers (`numbers`), as
quantities (`quantities`), or as values in floating point (`floating`). What is left goes to `algebra`, in a process
that may be killed. `arithmetic` reads expressions in exact fractions. `variants` writes a gold in other ways, to test
it.
"""
