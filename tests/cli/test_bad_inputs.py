"""Every call of the tables in bad_inputs.py gets one clear sentence, in the words of the interface used."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "bad_inputs.py"
# What the command says though it goes on.
SAID = {"mi latents.csv --bootstraps 1 --out RUN"}
PYTHON = re.compile(r"\b(target|missing|drop|keep|constant|kind|method|of|rows|categorical)=['\"\w]")


@pytest.fixture(scope="module")
def table():
    """All answers, by call; made in a process of their own, where nothing is checked but by the package itself."""
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json"], capture_output=True, text=True, timeout=170, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_at_least_forty_calls_are_tried(table):
    assert len(table) >= 165


def test_each_gets_one_clear_sentence(table):
    wrong = [(call, outcome, line, words) for call, outcome, line, words in table if words not in line]
    assert not wrong, wrong


def test_the_command_refuses_with_exit_code_2_and_does_not_speak_python(table):
    commands = [row for row in table if "(" not in row[0]]
    assert len(commands) >= 90
    assert {call for call, outcome, *_ in commands if outcome != "2"} == SAID
    assert not [row for row in commands if PYTHON.search(row[2])]


def test_the_api_raises_its_own_errors(table):
    raised = {outcome for call, outcome, *_ in table if "(" in call}
    assert raised <= {"ArgumentError", "DataError", "ProblemError", "StoreError"}
