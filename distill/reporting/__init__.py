"""One self-contained page on a run, or on several side by side.

`reading/` reads everything once; `sections/` are the page's parts, `charts/` its plots and numbers, `browser/` the
traces themselves; `page` puts it all into one file.
"""
