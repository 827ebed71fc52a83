"""From sampled attempts to scores, each with its interval.

`protocols` says what is sampled and how often, `attempts` what is kept of each trace; `scoring` holds the statistics,
`metrics` makes scores.json of them, `report` the differences and curves that it has no room for. `seeds` and `arms`
compare the runs of a study. `lighteval` brings in another harness's numbers; `answer_pairs` is `distill verify`.
"""
