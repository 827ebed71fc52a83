"""The trace browser of the page: which traces it shows, packed, and its part of the page.

`trace_sample` chooses traces (by `group_sizes`), `packed` packs them for the page, `trace_browser` puts it together.
"""
