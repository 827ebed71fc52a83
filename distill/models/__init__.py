"""Models as facts and as text: what they are called, how large they are, how they are talked to.

`sampled` says what a model is to those who sample it, and what a request and a completion are. `presets` finds
teachers and students by name, `shapes` counts their parameters without torch, `hub_files` fetches single files. `chat`
renders messages by a model's template, `tokens` counts tokens fast, `reasoning` splits what a model said into reasoning
and answer. `kv_cache` is transformers' cache with room to grow.
"""
