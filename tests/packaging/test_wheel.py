"""What a user installs: one wheel with the licence, the types' marker and every file the package reads."""

import tomllib
import zipfile
from pathlib import Path

from hatchling import build

import jaxland

ROOT = Path(__file__).parents[2]


def test_wheel_holds_the_package_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    wheel = tmp_path / build.build_wheel(str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        inside = {name for name in names if name.startswith("jaxland/")}
        info = {name.split("/", 1)[1]: name for name in names - inside}
        metadata = archive.read(info["METADATA"]).decode()
        assert "Apache License" in archive.read(info["licenses/LICENSE"]).decode()
    kept = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "jaxland").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == kept and "jaxland/py.typed" in inside
    assert any(name.startswith("jaxland/report/templates/") for name in inside)
    assert all(name.split("/")[0].endswith(".dist-info") for name in names - inside)
    assert f"Version: {jaxland.__version__}" in metadata and "License-Expression: Apache-2.0" in metadata


def test_versions_agree():
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert jaxland.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert (ROOT / "CHANGELOG.md").read_text().split("## ")[1].startswith(version)
