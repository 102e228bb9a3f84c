"""`python -m scripts.gateway_reference`: the gateway's OpenAPI document as a page of Markdown, for the site."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.settings import Settings

Json = Mapping[str, Any]
MEANS_NOTHING = "changes nothing: "

INTRODUCTION = """# Gateway API reference

Generated from the document that a gateway answers at `/openapi.json`. [The gateway's page](../gateway.md) says how the
endpoints behave together, and what their [errors](../gateway.md#errors) are. Fields that change nothing are left out
here: [fields of other APIs](../gateway.md#fields-of-other-apis) has them.
"""


def document() -> Json:
    """The OpenAPI document of a gateway with default settings."""
    server = FakeServer()
    return create_app(AsyncClient(transport=server.async_transport()), Settings()).openapi()


def reference(document: Json) -> str:
    """All endpoints; paths of one operation under one heading."""
    schemas = document["components"]["schemas"]
    together: dict[str, tuple[list[str], Json]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            key = f"{operation['summary']} {operation['description']}"
            together.setdefault(key, ([], operation))[0].append(f"{method.upper()} {path}")
    return "\n".join([INTRODUCTION, *(endpoint(doors, operation, schemas) for doors, operation in together.values())])


def endpoint(doors: list[str], operation: Json, schemas: Json) -> str:
    """One operation: where it is asked, what it does, the fields of its body, the statuses of its answer."""
    parts = [f"## {doors[0]}", operation["description"]]
    if others := doors[1:]:
        parts.append("Also " + ", ".join(f"`{door}`" for door in others) + ".")
    if name := request_name(operation):
        parts.append("\n".join(["| field | type | what |", "|---|---|---|", *rows(schemas[name])]))
    statuses = [f"`{status}` {answer['description']}" for status, answer in sorted(operation["responses"].items())]
    parts.append("Answers: " + "; ".join(statuses) + ".")
    return "\n\n".join(parts) + "\n"


def request_name(operation: Json) -> str | None:
    """The name of the schema of an operation's JSON body."""
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return reference.rpartition("/")[2] or None


def rows(schema: Json) -> Iterator[str]:
    """A row of Markdown for each field of a body that means something."""
    for name, field in schema.get("properties", {}).items():
        if field.get("description", "").startswith(MEANS_NOTHING):
            continue
        needed = "required; " if name in schema.get("required", ()) else ""
        what = (needed + field.get("description", "")).removesuffix("; ")
        yield f"| `{name}` | {escaped(type_of(field))} | {escaped(what)} |"


def type_of(schema: Json) -> str:
    """A schema's type in a word or some; null is left out, since every optional field may be null."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if choices := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(kind for choice in choices if (kind := type_of(choice)) != "null"))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"`{json.dumps(value)}`" for value in values if value is not None)
    if schema.get("type") == "array":
        return f"list of ({kind})" if " or " in (kind := type_of(schema.get("items", {}))) else f"list of {kind}"
    return str(schema.get("type", "any"))


def escaped(text: str) -> str:
    """The text in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(document()))
