"""The API for people to read: one page made of its OpenAPI description, which fetches nothing from elsewhere.

Knows the shape of an OpenAPI document; does not know the routes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def render_manual(document: dict[str, Any]) -> str:
    """Returns the page.

    Args:
        document: An OpenAPI 3.1 document.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    routes = [
        {
            "path": path,
            "method": method.upper(),
            "summary": route["summary"],
            "paragraphs": [" ".join(each.split()) for each in route.get("description", "").split("\n\n")],
            "parameters": route.get("parameters", []),
            "answers": {status: answer["description"] for status, answer in route["responses"].items()},
            "fields": list(_fields(_good_schema(route))),
        }
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    ]
    return environment.get_template("manual.html").render(info=document["info"], routes=routes)


def _good_schema(route: dict[str, Any]) -> dict[str, Any]:
    content = route["responses"]["200"].get("content", {})
    return dict(content.get("application/json", {}).get("schema", {}))


def _fields(schema: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names every field of an answer, those in lists and records too, with what it means."""
    for name, field in schema.get("properties", {}).items():
        whole = f"{before}{name}"
        yield whole, field.get("description", "")
        yield from _fields(field, f"{whole}.")
        if isinstance(field.get("items"), dict):
            yield from _fields(field["items"], f"{whole}[].")
