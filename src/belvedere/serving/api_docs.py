"""The page that describes the API, rendered from its OpenAPI document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from belvedere.evaluation.report.pages import open_templates

TEMPLATES = Path(__file__).with_name("templates")


def render_api_docs(document: dict[str, Any]) -> str:
    """Return the HTML page of an OpenAPI 3.1 document."""
    schemas = document["components"]["schemas"]
    routes = [
        {
            "path": path,
            "method": method.upper(),
            "paragraphs": [" ".join(each.split()) for each in route["description"].split("\n\n")],
            "parameters": route.get("parameters", []),
            "responses": {status: response["description"] for status, response in route["responses"].items()},
            "fields": list(_fields(route["responses"]["200"].get("content", {}).get("application/json", {}), schemas)),
        }
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    ]
    return open_templates(TEMPLATES).get_template("api_docs.html").render(info=document["info"], routes=routes)


def _fields(schema: dict[str, Any], schemas: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and description of every field of a schema, also of nested ones."""
    nested = [schema["schema"]] if "schema" in schema else [*schema.get("anyOf", ()), *schema.get("allOf", ())]
    if "$ref" in schema:
        nested.append(schemas[schema["$ref"].rpartition("/")[2]])
    for each in nested:
        yield from _fields(each, schemas, prefix)
    if isinstance(schema.get("items"), dict):
        yield from _fields(schema["items"], schemas, f"{prefix}[]")
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}.{name}".removeprefix(".")
        yield path, field.get("description", "")
        yield from _fields(field, schemas, path)
