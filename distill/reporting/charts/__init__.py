"""Charts as inline SVG, each with the table of its numbers: `plots` are the charts, `svg` their parts."""
