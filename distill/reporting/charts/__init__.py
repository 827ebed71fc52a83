"""Charts as inline SVG, each with the table of its numbers.

`plots` are the charts, `svg` what they are made of, `numbers` writes numbers for readers.
"""
