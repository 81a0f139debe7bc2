"""What a document must be, by ``schema.json``: the keywords of JSON Schema that are used there, no other.

The page draws what is in a document without asking twice, so a document is compared when it is read.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]

#: What Python's json makes of each type of JSON. True is an int in Python, and no number in JSON.
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda found: found is None,
    "boolean": lambda found: isinstance(found, bool),
    "string": lambda found: isinstance(found, str),
    "array": lambda found: isinstance(found, list),
    "object": lambda found: isinstance(found, dict),
    "number": lambda found: isinstance(found, int | float) and not isinstance(found, bool),
    "integer": lambda found: TYPES["number"](found) and found == found // 1,
}
#: Keywords that say nothing of values of another type.
OF_ONE_TYPE = {
    *("minimum", "minLength", "maxLength", "pattern", "minItems", "items"),
    *("required", "properties", "additionalProperties"),
}


def difference(found: Any, kind: str) -> str | None:
    """Where and how a document of this kind is not as the schema says; None if it is."""
    [mine] = (
        one
        for one in map(_referred, _root()["oneOf"])
        if one["properties"]["kind"]["const"] == kind
    )
    return next(_differences(found, mine, ()), None)


@cache
def _root() -> Schema:
    text = (Path(__file__).parent / "schema.json").read_text(encoding="utf-8")
    root: Schema = json.loads(text)
    return root


def _referred(schema: Schema) -> Schema:
    """The schema itself, or the one that it refers to."""
    if "$ref" not in schema:
        return schema
    found: Schema = _root()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return found


def _same(one: Any, other: Any) -> bool:
    """Are two values of JSON the same? True is not 1 there, as it is in Python."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _differences(found: Any, schema: Schema, at: tuple[str | int, ...]) -> Iterator[str]:
    where = ".".join(map(str, at)) or "the document"
    for keyword, said in schema.items():
        match keyword, found:
            case "$ref", _:
                yield from _differences(found, _referred(schema), at)
            case "anyOf", _:
                if all(any(_differences(found, one, at)) for one in said):
                    yield f"{where}: {_short(found)} is none of what may stand there"
            case "const", _:
                if not _same(found, said):
                    yield f"{where}: {_short(found)} is not {_short(said)}"
            case "enum", _:
                if not any(_same(found, one) for one in said):
                    yield f"{where}: {_short(found)} is none of {', '.join(map(_short, said))}"
            case "type", _:
                if not TYPES[said](found):
                    yield f"{where}: {_short(found)} is no {said}"
            case "minimum", int() | float():
                if found < said:
                    yield f"{where}: {_short(found)} is less than {said}"
            case ("minLength", str()) | ("minItems", list()):
                if len(found) < said:
                    yield f"{where}: {_short(found)} is too short"
            case "maxLength", str():
                if len(found) > said:
                    yield f"{where}: {_short(found)} is too long"
            case "pattern", str():
                if not re.search(said, found):
                    yield f"{where}: {_short(found)} is not of the form {said}"
            case "required", dict():
                yield from (f"{where}: has no {name!r}" for name in said if name not in found)
            case "properties", dict():
                for name in said.keys() & found.keys():
                    yield from _differences(found[name], said[name], (*at, name))
            case "additionalProperties", dict():
                for name in found.keys() - schema.get("properties", {}).keys():
                    if said is False:
                        yield f"{where}: has {_short(name)}, which is not known"
                    else:
                        yield from _differences(found[name], said, (*at, name))
            case "items", list():
                first = schema.get("prefixItems", ())
                for number, (item, of_item) in enumerate(zip(found, first, strict=False)):
                    yield from _differences(item, of_item, (*at, number))
                for number, item in enumerate(found[len(first) :], len(first)):
                    if said is False:
                        yield f"{where}: {_short(found)} is too long"
                    else:
                        yield from _differences(item, said, (*at, number))
            case (("$schema" | "$defs" | "title" | "description" | "prefixItems"), _):
                pass  # only told, or read with another
            case _ if keyword not in OF_ONE_TYPE:
                raise LookupError(f"schema.json: {keyword} is not read")


def _short(found: Any) -> str:
    text = json.dumps(found)
    return text if len(text) <= 40 else f"{text[:37]}..."
