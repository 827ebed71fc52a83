"""Other people's data: their rows, how their fields are read, and what is made of them.

`rows` reads files, folders and Hub datasets; `field_maps` turns a row into a problem and traces by a map of YAML;
`imported` makes a run folder of them; `mix` draws general data that is trained on beside the reasoning traces.
"""
