"""Every setting of a recipe, explained: to people, by `distill settings`, and to editors, by a JSON schema.

`places` lists the settings below a dotted place, kinds' own among them; `schema` makes recipes/recipe.schema.json.
"""
