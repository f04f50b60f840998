"""One dataclass of settings: what the API's keywords, help() and the command line are made of."""

import inspect
import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest

import jaxland.landscape
from jaxland.errors import ArgumentError
from jaxland.landscape import SearchSettings, explore
from jaxland.landscape.search.settings import SearchOptions
from jaxland.options import chosen, help_texts


def test_the_keywords_are_the_fields():
    assert get_type_hints(SearchOptions) == get_type_hints(SearchSettings)


def test_every_field_says_what_it_means():
    texts = help_texts(SearchSettings)
    assert list(texts) == [f.name for f in fields(SearchSettings)]
    assert all(text[0].isupper() and text.endswith(".") for text in texts.values())


def test_help_shows_every_option_with_its_default():
    parameters = inspect.signature(explore).parameters
    for f in fields(SearchSettings):
        assert parameters[f.name].default == f.default
        assert parameters[f.name].kind is inspect.Parameter.KEYWORD_ONLY
    assert "starts: int = 200" in str(inspect.signature(explore))


def test_options_replace_fields_of_given_settings():
    settings = SearchSettings(seed=3, starts=7)
    assert chosen(SearchSettings, settings, {"starts": 9}) == SearchSettings(seed=3, starts=9)
    assert chosen(SearchSettings, None, {}) == SearchSettings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"walks": 3}, "unknown option 'walks'; choose from seed, starts"),
        ({"starts": 0}, "starts must be at least 1"),
        ({"pairs": -1}, "pairs must not be negative"),
        ({"max_step": 0.0}, "max_step must be positive"),
        ({"images": 2}, "images must be at least 3"),
        ({"precision": "half"}, "precision must be one of double, mixed"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        chosen(SearchSettings, None, options)


def test_settings_are_read_without_jax():
    code = "import sys, jaxland.landscape.search.settings; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_of_the_landscape_is_there():
    assert dir(jaxland.landscape) == sorted(jaxland.landscape.__all__)
    assert set(jaxland.landscape.__all__) == set(jaxland.landscape._HOME)
    for name in jaxland.landscape.__all__:
        assert getattr(jaxland.landscape, name).__name__ == name
