"""The command networks."""

import json

from belvedere.training.networks import list_models
from command_line import assert_one_line, belvedere


def test_networks_lists_all() -> None:
    plain, found = belvedere("networks"), json.loads(belvedere("networks", "--json").stdout)["networks"]
    assert plain.returncode == 0, plain.stderr
    assert [each["name"] for each in found] == [each.name for each in list_models()]
    assert all(each["name"] in plain.stdout for each in found)


def test_a_wrong_argument_is_one_line() -> None:
    assert_one_line(belvedere("networks", "resnet18"), 2, "resnet18")
