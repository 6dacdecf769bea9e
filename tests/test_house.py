"""The house: layers, metadata, file sizes, and what the wheel holds."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import cnnc
from cnnc.cli import main

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("cnnc", "tests", "examples") for path in (ROOT / folder).rglob("*.py"))
MAX_LINES = 300


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Top-level names of the packages a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_files_are_short() -> None:
    long = {name_of(path): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > MAX_LINES}
    assert long == {}


def test_import_layers_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_one_module_reads_the_environment() -> None:
    readers = {
        name_of(path)
        for path in SOURCES
        if name_of(path).startswith("cnnc/") and ("os.environ" in path.read_text() or "getenv" in path.read_text())
    }
    assert readers == {"cnnc/env.py"}


def test_the_package_imports_only_what_it_declares() -> None:
    declared = {"lark", "networkx", "numpy", "rich", "safetensors", "triton"}
    optional = {"torch", "onnx", "sklearn"}
    used = set().union(*(imports(path) for path in SOURCES if name_of(path).startswith("cnnc/")))
    assert used - set(sys.stdlib_module_names) - {"cnnc"} <= declared | optional


def test_the_license_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")


def test_the_readme_shows_the_real_summary(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text()
    program = (ROOT / "models" / "lenet5.cnn").read_text()
    assert main(["summary", str(ROOT / "models" / "lenet5.cnn")]) == 0
    for text in (program[program.index("model") :], capsys.readouterr().out):
        assert "\n".join(("    " + line).rstrip() for line in text.splitlines()) in readme


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation: hatchling is in the dev extra, and the test needs no network.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_grammars_and_models(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in ("grammars", "models"):
        shipped = {f"cnnc/_data/{folder}/{path.name}" for path in (ROOT / folder).iterdir()}
        assert shipped
        assert shipped <= names
    assert "cnnc/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "grammars/", "models/"))]


def test_the_wheel_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    facts = message_from_bytes(wheel.read(name))
    assert (facts["License-Expression"], facts["Requires-Python"]) == ("Apache-2.0", ">=3.10")
    assert facts["Version"] == cnnc.__version__
    needs = [line.partition(";")[::2] for line in facts.get_all("Requires-Dist", [])]
    core = {need.partition(">")[0] for need, condition in needs if "extra ==" not in condition}
    assert core == {"lark", "networkx", "numpy", "rich", "safetensors", "triton"}
    assert [need for need, condition in needs if need.startswith("torch") and "dev" in condition] == ["torch==2.13.0"]


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    """check, summary, compile, run and train, installed, without torch."""
    script = ROOT / "tests" / "wheel_in_empty_venv.sh"
    done = subprocess.run(
        ["bash", str(script), sys.executable, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
