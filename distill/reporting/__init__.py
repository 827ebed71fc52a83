"""One self-contained page on a run, or on several side by side.

`gather` reads everything once (with `token_use`, `curves` and `rates`); `sections/` are the page's parts, `charts/` its
plots, `browser/` the traces themselves; `numbers` writes numbers for readers, and `page` puts it all into one file.
"""
