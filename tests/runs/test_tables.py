"""Tables and pictures are whole or as they were, and a place that cannot be written is one sentence."""

import errno
import os

import pandas as pd
import pytest

from jaxland.cli import main
from jaxland.errors import StoreError
from jaxland.report.figures import canvas, save
from jaxland.runs import write_table


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("write", [lambda stem: write_table(f"{stem}.csv", pd.DataFrame({"a": [1]})),
                                   lambda stem: save(canvas()[0], stem, kinds=("png",))])  # fmt: skip
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, write):
    write(tmp_path / "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"a\.(csv|png) cannot be written: No space left on device"):
            write(tmp_path / "a")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write(tmp_path / "file" / "a")


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_the_command_turns_an_error_of_a_file_into_a_sentence(monkeypatch, capsys, code):
    def refused(arguments):
        raise OSError(code, os.strerror(code), "some/place")

    monkeypatch.setattr("jaxland.cli.app", refused)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip() == f"error: some/place: {os.strerror(code).lower()}"
