"""What is shipped is what is tested: the wheel, installed outside the source tree."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

import decidable as dc

pytestmark = pytest.mark.skipif(
    shutil.which("cargo") is None or shutil.which("maturin", path=Path(sys.executable).parent) is None,
    reason="building a wheel needs cargo and maturin",
)


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command without this process's Python settings and gives its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the settings of a release."""
    out = tmp_path_factory.mktemp("wheel")
    maturin = Path(sys.executable).with_name("maturin")
    run(maturin, "build", "--release", "--quiet", "--interpreter", sys.executable, "--out", out, cwd=root)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that has the wheel, numpy and nothing else; gives its folder of commands."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "venv", with_pip=True)
    commands = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    site = Path(
        run(commands / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    )
    # numpy as it is here, so that no package index is asked.
    for part in {
        Path(str(file)).parts[0] for file in distribution("numpy").files or [] if not str(file).startswith("..")
    }:
        (site / part).symlink_to(Path(str(distribution("numpy").locate_file(part))).resolve())
    run(commands / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=home)
    return commands


def test_the_wheel_holds_one_package_that_is_typed(wheel: Path) -> None:
    """One top-level package with its extension, its types, its licence and nothing of the tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"decidable"}
    assert "decidable/py.typed" in names
    assert "decidable/_native.pyi" in names
    assert [name for name in names if name.startswith("decidable/_native.") and not name.endswith(".pyi")]
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    assert not [name for name in names if "test" in name]


def test_numpy_is_the_only_dependency(wheel: Path) -> None:
    """Everything else is an extra."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        fields = email.message_from_bytes(archive.read(metadata))
    required = [line for line in fields.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(required) == 1, required
    assert required[0].startswith("numpy")
    assert fields["Requires-Python"] == ">=3.11"


def test_the_wheel_works_with_numpy_alone(installed: Path, tmp_path: Path) -> None:
    """It installs without conflicts, imports from its own place, and knows its version."""
    run(installed / "python", "-m", "pip", "check", cwd=tmp_path)
    place, version = run(
        installed / "python",
        "-c",
        "import decidable; print(decidable.__file__); print(decidable.__version__)",
        cwd=tmp_path,
    ).split()
    assert Path(place).is_relative_to(installed.parent)
    assert version == distribution("decidable").version


def test_the_examples_run_with_the_wheel_and_its_log_verifies(root: Path, installed: Path, tmp_path: Path) -> None:
    """Every example, the demonstration, verification, rules, measuring: as the workflow does."""
    told = run(installed / "python", root / "tests" / "installed.py", cwd=tmp_path).split()
    assert told == [
        *sorted(path.stem for path in (root / "examples").glob("[0-9]*.py")),
        "demo/state",
        "guard",
        "bench",
    ]
    demo = tmp_path / "demo"
    key = dc.Key.from_file(demo / "wal.key")
    assert dc.verify(demo / "state", key=key, head=demo / "head.json").decisions > 250


def test_importing_loads_neither_the_command_nor_an_integration(installed: Path, tmp_path: Path) -> None:
    """`import decidable` stays light: what a program does not use is not loaded."""
    loaded = run(installed / "python", "-c", "import decidable, sys; print(*sys.modules)", cwd=tmp_path).split()
    unwanted = ("decidable.cli", "decidable.report", "argparse", "rich", "http.client")
    assert not [name for name in loaded if name in unwanted or name.startswith("decidable.integrations.")]


def test_the_command_works_after_a_plain_install(installed: Path, tmp_path: Path) -> None:
    """Without the extra `cli`, every command of the list answers."""
    overview = run(installed / "decidable", "--help", cwd=tmp_path)
    for command in ("demo", "route", "decide", "verify", "explain", "report", "export", "digest"):
        assert command in overview
        assert command in run(installed / "decidable", command, "--help", cwd=tmp_path)


def test_the_source_archive_can_be_built_from(root: Path, tmp_path: Path) -> None:
    """It has the licence, and cargo finds every crate of the extension in it."""
    run(Path(sys.executable).with_name("maturin"), "sdist", "--out", tmp_path, cwd=root)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    for name in ("LICENSE", "NOTICE", "README.md", "pyproject.toml", "Cargo.lock"):
        assert (source / name).is_file(), name
    run("cargo", "tree", "--offline", "--package", "decidable-python", "--edges", "normal", cwd=source)
