"""The estimators' options: one dataclass, seen by ``help()``, its keywords and the command line alike."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

from jaxland import information
from jaxland.errors import ArgumentError
from jaxland.information.options import Keywords, MatrixKeywords
from jaxland.options import help_texts

WIDER = ("orders", "categorical")  # given as any of several, kept as one


@pytest.mark.parametrize(
    ("options", "keywords"), [(information.Options, Keywords), (information.MatrixOptions, MatrixKeywords)]
)
def test_the_keywords_are_the_fields(options, keywords):
    hints, given = get_type_hints(options), get_type_hints(keywords)
    assert list(given) == list(hints)
    assert {k: v for k, v in given.items() if k not in WIDER} == {k: v for k, v in hints.items() if k not in WIDER}
    assert all(text[-1] == "." for text in help_texts(options).values())


def test_help_shows_every_option_with_its_default():
    shown = inspect.signature(information.matrix).parameters
    for f in fields(information.MatrixOptions):
        assert shown[f.name].default == f.default


def test_names_of_labels():
    assert information.MatrixOptions().categorical_names is None
    assert information.MatrixOptions(categorical="a, b,").categorical_names == ("a", "b")
    assert information.MatrixOptions(categorical=[]).categorical_names == ()


def test_unknown_options_are_refused():
    with pytest.raises(ArgumentError, match="unknown option 'boots'; choose from bootstraps, starts"):
        information.matrix([[1.0]], boots=3)
