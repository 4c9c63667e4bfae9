"""Configurations: converted, limited, frozen, and clear about what is wrong."""

import pytest
from pydantic import Field, ValidationError

from recsys.config import Config
from recsys.errors import UsageError


class Kettle(Config):
    """What the tests configure."""

    litres: float = Field(gt=0, le=2, description="how much it holds")
    colour: str = "red"
    whistle: bool = False
    lid: int | None = None


def test_strings_are_converted_to_the_fields_types() -> None:
    found = Kettle.checked({"litres": "1.5", "whistle": "true", "lid": "3"}, "here")
    assert found == Kettle(litres=1.5, whistle=True, lid=3)


def test_an_unknown_parameter_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as error:
        Kettle.checked({"litres": 1, "color": "blue"}, "kettle.yaml")
    assert str(error.value) == (
        "kettle.yaml: unknown parameter 'color' (known: litres, colour, whistle, lid)."
    )


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(UsageError) as error:
        Kettle.checked({"lid": "x", "litre": 1}, "here")
    message = str(error.value)
    assert "parameter 'litres' is missing" in message
    assert "lid='x' is not usable: input should be a valid integer" in message
    assert "unknown parameter 'litre'" in message
    assert "\n" not in message


@pytest.mark.parametrize("litres", [0, 2.5, "much"])
def test_a_value_outside_the_limits_is_refused(litres: object) -> None:
    with pytest.raises(UsageError, match=r"here: litres=.* is not usable"):
        Kettle.checked({"litres": litres}, "here")


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Kettle(litres=1).litres = 2


def test_round_trips_through_json_and_yaml() -> None:
    kettle = Kettle(litres=0.1, colour="größer: ja", lid=7)
    assert Kettle.model_validate_json(kettle.model_dump_json()) == kettle
    assert Kettle.from_yaml(kettle.model_dump_json(), "here") == kettle
    assert Kettle.from_yaml("litres: 0.1\ncolour: 'größer: ja'\nlid: 7\n", "here") == kettle


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "just words", ""])
def test_yaml_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"kettle\.yaml must be a YAML mapping"):
        Kettle.from_yaml(text, "kettle.yaml")


def test_broken_yaml_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"kettle\.yaml is not valid YAML") as error:
        Kettle.from_yaml("litres: [1\ncolour: }", "kettle.yaml")
    assert "\n" not in str(error.value)
