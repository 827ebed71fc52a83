"""A finished student or data set on its way to the Hub or to a plain folder.

`facts` gathers what a run can prove; `licences` says what applies; `model_card`, `dataset_card` and their `sections`
are written from both, `results` are the scores as the Hub reads them, `text` keeps foreign text from being markup.
`folder` puts all of it together, `hub` and `place` bring it there, `loading` (with `loader`, a process) tries it first.
"""
