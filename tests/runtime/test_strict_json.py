import json
import math

from belvedere.runtime.strict_json import dump_json


def test_json_holds_nothing_but_json() -> None:
    content = {"figures": [1.5, math.nan, (math.inf, "NaN")], "none": None, "deeper": {"low": -math.inf, "yes": True}}

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(dump_json(content), parse_constant=refuse)
    assert read == {"figures": [1.5, None, [None, "NaN"]], "none": None, "deeper": {"low": None, "yes": True}}
