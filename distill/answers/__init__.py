"""What an answer to a maths problem says, and when two answers are equal.

`final` finds the answer in a reply, `plain` for kinds without LaTeX. `latex` compares two strings after
normalising them (`symbols`), by their parts (`structure`), as numbers (`numbers`), quantities (`quantities`) or values
in floating point (`floating`); what is left goes to `algebra`, in a process that may be killed. `arithmetic` reads
expressions in exact fractions. `variants` writes a gold in other ways, to test that it accepts them.
"""
