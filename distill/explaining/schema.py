"""recipes/recipe.schema.json, by which editors complete recipes and mark what is wrong in them.

Made from the classes that read recipes: `distill settings --schema > recipes/recipe.schema.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from distill import plugins
from distill.explaining import places
from distill.recipe import Recipe
from distill.settings import meanings

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ANY_KIND_FILE = {"type": "object", "properties": {"kind": {"pattern": r"\.py$"}}, "required": ["kind"]}
_KIND_TEXT = {"type": "string", "description": "Kind of what the settings are for: a shipped one, or ./a_file.py."}


def text() -> str:
    """The file's content."""
    return json.dumps(recipe_schema(), ensure_ascii=False, indent=1) + "\n"


def recipe_schema() -> JsonSchemaValue:
    """What a recipe may hold, kinds' settings included, as a JSON schema."""
    families = {places.FAMILIES[place] for place in _recipe_families()}
    kinds = {(family, kind): _config(family, kind) for family in sorted(families) for kind in plugins.names(family)}
    loose = set(places.LOOSE.values())
    classes: list[type[BaseModel]] = [Recipe, *kinds.values(), *sorted(loose, key=lambda config: config.__name__)]
    references, definitions_of = models_json_schema(
        [(config, "validation") for config in classes], schema_generator=_WithMeanings
    )
    definitions: dict[str, JsonSchemaValue] = definitions_of["$defs"]
    names = {config: str(references[config, "validation"]["$ref"]).rpartition("/")[2] for config in classes}
    for config in kinds.values():  # a kind may be named beside its settings
        definitions[names[config]]["properties"] = {"kind": _KIND_TEXT, **definitions[names[config]]["properties"]}
    for place in _recipe_families():
        family = places.FAMILIES[place]
        config_names = {kind: names[config] for (name, kind), config in kinds.items() if name == family}
        definitions[f"{family}_by_kind"] = _by_kind(config_names)
        content_of = _named_kinds if place in places.NAMED_KINDS else _one_kind
        _replace(definitions, names[Recipe], place, content_of(family, config_names, definitions))
    for place, config in places.LOOSE.items():
        loose_name = f"{config.__name__}Changes"
        definitions[loose_name] = {**definitions[names[config]], "required": []}
        content: JsonSchemaValue = {"$ref": f"#/$defs/{loose_name}"}
        if place.endswith(places.NAME):
            content = {"type": "object", "additionalProperties": content}
        _replace(definitions, names[Recipe], place.removesuffix(f".{places.NAME}"), content)
    return _root(definitions.pop(names[Recipe]), definitions)


def _root(recipe: JsonSchemaValue, definitions: Mapping[str, JsonSchemaValue]) -> JsonSchemaValue:
    extends = {"type": "string", "description": "Recipe that this one changes, by its name or path."}
    required = [name for name in recipe["required"] if name != "name"]  # the file's name when left out
    return {
        "$schema": DRAFT,
        **recipe,
        "title": "A recipe of distill",
        "properties": {"extends": extends, **recipe["properties"]},
        "required": [],
        "anyOf": [{"required": required}, {"required": ["extends"]}],
        "$defs": dict(sorted(definitions.items())),
    }


def _recipe_families() -> list[str]:
    return [place for place in places.FAMILIES if place.partition(".")[0] in Recipe.model_fields]


def _config(family: str, kind: str) -> type[BaseModel]:
    config: type[BaseModel] = plugins.load(family, kind).Config
    return config


def _named_kinds(
    family: str, config_names: Mapping[str, str], definitions: Mapping[str, JsonSchemaValue]
) -> JsonSchemaValue:
    """Kinds by name, each true, false, null or a mapping; a name that is no kind tells its kind in its settings."""
    by_kind = {"$ref": f"#/$defs/{family}_by_kind"}
    kinds: dict[str, JsonSchemaValue] = {}
    for kind, name in config_names.items():
        own = {"allOf": [{"$ref": f"#/$defs/{name}"}, {"properties": {"kind": {"const": kind}}}]}
        kinds[kind] = {"anyOf": [own, {"type": ["boolean", "null"]}, by_kind]}
    return {
        "type": "object",
        "properties": kinds,
        "additionalProperties": {"anyOf": [by_kind, {"const": False}]},
    }


def _one_kind(
    family: str, config_names: Mapping[str, str], definitions: Mapping[str, JsonSchemaValue]
) -> JsonSchemaValue:
    """One kind with its settings; `auto`, which is also meant by no kind, has the settings of whatever it comes to."""
    properties: dict[str, object] = {}
    for name in config_names.values():
        properties = {**definitions[name]["properties"], **properties}
    properties["kind"] = {**_KIND_TEXT, "const": "auto"}
    auto = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"anyOf": [auto, {"$ref": f"#/$defs/{family}_by_kind"}]}


def _by_kind(config_names: Mapping[str, str]) -> JsonSchemaValue:
    """Settings with the kind that they are for, a user's own file's among them."""
    shipped_kinds: list[JsonSchemaValue] = [
        {"allOf": [{"$ref": f"#/$defs/{name}"}, {"properties": {"kind": {"const": kind}}, "required": ["kind"]}]}
        for kind, name in config_names.items()
    ]
    return {"anyOf": [*shipped_kinds, _ANY_KIND_FILE]}


def _replace(definitions: Mapping[str, JsonSchemaValue], root: str, place: str, content: JsonSchemaValue) -> None:
    """Put what a place may hold where its class says less; the description stays."""
    *path, last = place.split(".")
    name = root
    for part in path:
        reference = definitions[name]["properties"][part]
        name = str(reference["$ref"]).rpartition("/")[2]
    properties = definitions[name]["properties"]
    properties[last] = {"description": properties[last]["description"], **content}


class _WithMeanings(GenerateJsonSchema):
    """Pydantic's schema, with the meaning of each field as its description and without titles that repeat names."""

    def field_title_should_be_set(self, schema: core_schema.CoreSchema | core_schema.ModelField) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        described.pop("title", None)
        config: type[BaseModel] = schema["cls"]
        for name, meaning in meanings.of(config).items():
            described["properties"][name]["description"] = meaning
        return described
