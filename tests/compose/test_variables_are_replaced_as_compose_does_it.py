"""The harness replaces variables as Compose does, as far as our file goes, and refuses what goes further."""

import pytest

from tests.support.composefile import UnsetVariable, interpolate

VARIABLES = {"SET": "value", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${SET}", "value"),
        ("${NONE}", ""),
        ("${SET:-other}", "value"),
        ("${EMPTY:-other}", "other"),
        ("${NONE:-other}:80", "other:80"),
        ("${NONE:-a${SET}b}", "avalueb"),
        ("${SET:-a${NONE:?never asked for}b}", "value"),
        ("${SET-other}", "value"),
        ("${EMPTY-other}", ""),
        ("${NONE-other}:80", "other:80"),
        ("${SET:?needed}", "value"),
        ("$$HOSTNAME", "$HOSTNAME"),
        ("a } brace", "a } brace"),
    ],
)
def test_a_variable_is_replaced(text: str, expected: str):
    """Before a colon, empty counts as not set; a default may hold variables."""
    assert interpolate(text, VARIABLES) == expected
    assert interpolate({"key": [text, 7]}, VARIABLES) == {"key": [expected, 7]}


@pytest.mark.parametrize("name", ["NONE", "EMPTY"])
def test_a_needed_variable_is_asked_for(name: str):
    """With the words of the file."""
    with pytest.raises(UnsetVariable, match=f"{name}: say so"):
        interpolate(f"${{{name}:?say so}}", VARIABLES)


@pytest.mark.parametrize("text", ["$SET", "${SET?needed}", "${SET:+other}", "${1}", "$"])
def test_a_form_that_the_file_does_not_use_is_refused(text: str):
    """Rather than read otherwise than an engine reads it."""
    with pytest.raises(ValueError, match=r"\$"):
        interpolate(text, VARIABLES)
