"""One dataclass of options, two ways in: as keywords and as flags."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from jaxland import cli
from jaxland.cli.options import Kept, spread
from jaxland.cli.recipe import Recipe
from jaxland.errors import DataError, StoreError
from jaxland.landscape.search.settings import SearchSettings
from jaxland.options import option


@dataclass(frozen=True)
class Cooking:
    """How it is cooked."""

    minutes: int = option(5, "How long.")
    names: tuple[str, ...] = option((), "Whose.")
    salt: bool = option(False, "With salt.")
    steam: bool = option(True, "With steam.")
    heat: float | None = option(None, "How hot.")
    labels: str | tuple[str, ...] = option("auto", "What is written on it.")
    seed: int = option(0, "Of chance.")


@dataclass(frozen=True)
class Serving:
    """How it is served."""

    plates: int = option(1, "How many.")
    seed: int = option(0, "Of chance.")


QUICK = Cooking(minutes=7)


def run(*arguments):
    app, seen = typer.Typer(), []

    @app.command()
    @spread
    def cook(
        what: str,
        salt: Serving,
        cooking: Annotated[Cooking, Kept(without=("heat",), help={"seed": "Of every chance."})] = QUICK,
        loud: bool = False,
    ) -> None:
        """Cook."""
        seen.append((what, salt, cooking, loud))

    done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    return done, seen


def test_fields_become_options_with_their_defaults_and_help():
    done, seen = run("egg")
    assert done.exit_code == 0, done.output
    assert seen == [("egg", Serving(), QUICK, False)]
    done, seen = run("egg", "--minutes", 3, "--names", "a", "--names", "b", "--salt", "--no-steam", "--labels", "x,y")
    assert seen[0][2] == Cooking(minutes=3, names=("a", "b"), salt=True, steam=False, labels="x,y")
    page = run("--help")[0].output
    for words in ("--plates", "How many.", "Whose; repeatable.", "How it is cooked", "--no-steam"):
        assert words in page
    assert "--heat" not in page and "--no-salt" not in page


def test_one_name_is_one_option_for_all():
    _, seen = run("egg", "--seed", 4)
    assert seen[0][1].seed == seen[0][2].seed == 4


def test_every_command_loads_and_explains_every_option():
    group = typer.main.get_command(cli.app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None and command.name == name and command.get_short_help_str()
        assert all(p.help for p in command.params if p.name != "help"), name


def test_explore_offers_every_setting_of_a_search():
    group = typer.main.get_command(cli.app)
    offered = {p.name for p in group.get_command(typer.Context(group), "explore").params}
    assert {f for f in SearchSettings.__dataclass_fields__ if f != "max_step"} < offered


def test_version():
    from jaxland import __version__

    assert CliRunner().invoke(cli.app, ["--version"]).output == f"jaxland {__version__}\n"


def test_a_recipe_survives_the_disk_also_one_of_another_version(tmp_path):
    recipe = Recipe("xor", search=SearchSettings(minima=0, seed=3))
    recipe.save(tmp_path)
    again = Recipe.load(tmp_path)
    assert again == recipe and again.settings.minima is None
    (tmp_path / "run.json").write_text('{"source": "xor", "lam": 0.01, "hidden": "2", "categorical": ["a"]}')
    old = Recipe.load(tmp_path)
    assert old.network.l2 == 0.01 and old.network.widths == (2,) and old.table.categorical == ("a",)
    (tmp_path / "run.json").write_text('{"source": "xor", "colour": 1}')
    with pytest.raises(StoreError, match="unknown fields colour"):
        Recipe.load(tmp_path)
    with pytest.raises(DataError, match=r"holds no run\.json"):
        Recipe.load(tmp_path / "nowhere")


def test_the_help_page_says_what_the_commands_say():
    """Its sentences are written down, so that it imports nothing."""
    import typer

    from jaxland.cli import COMMANDS, Commands

    group = Commands(name="jaxland")
    for name, (_, sentence) in COMMANDS.items():
        command = group.get_command(typer.Context(group), name)
        assert command.help.replace("\n", " ").split("  ")[0].startswith(sentence), name
