"""What the API takes and gives, as OpenAPI describes it.

Knows the shapes; does not know how they are filled.
"""

from typing import Any

from belvedere.serving.uploads import FIELD, FORM, RAW

Schema = dict[str, Any]

DESCRIPTION = (
    "Answers for photographs: class probabilities, what else is in the picture, and whether it is none of these. "
    "Pictures are read, answered and forgotten: none is stored, and none leaves this machine."
)


def text(description: str, **more: Any) -> Schema:
    """A string."""
    return {"type": "string", "description": description, **more}


def number(description: str, **more: Any) -> Schema:
    """A number from 0 to 1, or null."""
    return {"type": ["number", "null"], "description": description, "minimum": 0, "maximum": 1, **more}


def record(properties: Schema, **more: Any) -> Schema:
    """An object with these keys, all of which are there."""
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def listed(items: Schema, description: str) -> Schema:
    """A list."""
    return {"type": "array", "items": items, "description": description}


TAG = record(
    {
        "name": text("A class."),
        "share": {"type": "number", "description": "Of the picture, 0 to 1."},
        "confidence": {"type": "number", "description": "That it is in the picture, 0 to 1."},
    }
)
PREDICTION = record(
    {
        "image": text("The file's name as it was sent."),
        "answer": {"type": ["string", "null"], "description": "The class, or `none of these`."},
        "predicted_label": {"type": ["string", "null"], "description": "The likeliest class, whatever the answer is."},
        "confidence": number("Its probability."),
        "probabilities": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "number"},
            "description": "Of every class.",
        },
        "tags": listed(
            TAG,
            "What is in the picture, the answer first; empty for `none of these`, or where the model does not tell.",
        ),
        "tag_probabilities": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "number"},
            "description": "How sure it is of every class that it is in the picture; null where the model can't tell.",
        },
        "prediction_set": listed({"type": "string"}, "The prediction set, most probable class first."),
        "none_of_these": {"type": ["boolean", "null"], "description": "Whether it is unlike every class."},
        "none_of_these_score": number("How unlike: the share of true pictures that are less unlike."),
        "notes": listed({"type": "string"}, "What was decided in reading the file."),
        "error": {"type": ["string", "null"], "description": "Why the file could not be read; the rest is empty then."},
        "heatmap": {
            "type": ["array", "null"],
            "items": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "description": "(K, h, w): at each place of the picture the share of each class, in the order of "
            "`classes`. Null unless asked for, and where the model does not tell places.",
        },
    }
)
ANSWER = record(
    {
        "model": record(
            {"name": text("Its file."), "sha256": text("Of its file.")}, description="The one that said it."
        ),
        "input": record(
            {
                "height": {"type": "integer", "description": "Pixels."},
                "width": {"type": "integer", "description": "Pixels."},
                "resize": text(
                    "How a picture is fitted: stretch, or crop (the middle is seen).", enum=["stretch", "crop"]
                ),
            }
        ),
        "classes": listed({"type": "string"}, "In the order of the model's numbers."),
        "predictions": listed(PREDICTION, "One a picture, in the order they were sent."),
    }
)
PROBLEM = record(
    {"error": record({"code": text("For programs, such as `too_many_files`."), "message": text("For people.")})}
)
STATUS = record({"status": text("`ok` or `ready`.")})
CARD = record(
    {
        "name": text("The model's file."),
        "sha256": text("Of that file."),
        "loaded": text("Since when it answers, UTC."),
        "reload_error": {
            "type": ["string", "null"],
            "description": "Why the model's file is not in use (a newer one can't be used, or it is gone): the model "
            "before it goes on answering.",
        },
        "heatmaps": {"type": "boolean", "description": "Whether the model tells places."},
        "limits": {"type": "object", "additionalProperties": {"type": "number"}, "description": "Of a request."},
        "card": {"type": "object", "description": "Classes, input, layers and provenance, as the file holds them."},
    }
)
FILE = {"type": "string", "format": "binary"}
BODY: Schema = {
    "required": True,
    "content": {
        FORM: {"schema": record({FIELD: {"type": "array", "items": FILE, "minItems": 1}})},
        "image/*": {"schema": FILE},
        RAW: {"schema": FILE},
    },
}
MEANINGS = {
    400: "The form is damaged, or the request has several Host headers.",
    401: "The token is missing or wrong.",
    403: "Another origin's page asks, and was not allowed to.",
    408: "The request was sent too slowly.",
    413: "Too many bytes, or too many files.",
    415: "The body is of another type.",
    421: "The request names another host, and the server, which asks for no token, is for this machine only.",
    422: "The picture can't be read, or the form or the query is not as expected.",
    500: "A thread of the server has ended, or does not come back: start it anew.",
    503: "There is no room now, or the server ends: try again in a moment.",
}


def answers(description: str, schema: Schema, *refusals: int) -> dict[int | str, dict[str, Any]]:
    """Describes a route's answers: the good one, and its refusals."""
    described: dict[int | str, dict[str, Any]] = {200: _with_json(description, schema)}
    for status in sorted({*refusals, 421}):
        described[status] = _with_json(MEANINGS[status], PROBLEM)
    return described


def _with_json(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
