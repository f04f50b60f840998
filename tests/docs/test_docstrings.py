"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text().count(">>> ")
    for path in sorted((ROOT / "jaxland").rglob("*.py"))
}


class Finder(doctest.DocTestFinder):
    """Sees through decorators (the run-time check of annotations is one)."""

    def _from_module(self, module, object):
        return super()._from_module(module, inspect.unwrap(object) if callable(object) else object)


@pytest.mark.parametrize("name", [name for name, examples in MODULES.items() if examples])
def test_examples_of_docstrings(name):
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in Finder().find(module, name):
        runner.run(test)
    failed, tried = runner.summarize(verbose=False)
    assert not failed and tried == MODULES[name]
