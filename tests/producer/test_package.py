"""The wheel: one package with few dependencies, beside packages of other projects."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "worker", "config", "demo", "celery", "kombu"}
#: What the extras install.
EXTRA = {
    "fastapi",
    "fastapi-swagger",
    "gradio",
    "httpcore",
    "httptools",
    "httpx",
    "limits",
    "modelscope_hub",
    "numpy",
    "prometheus_client",
    "pyarrow",
    "python_multipart",
    "sse_starlette",
    "standardwebhooks",
    "starlette",
    "usearch",
    "uvicorn",
    "uvloop",
}
#: What needs them; nothing else imports these.
OF_EXTRAS = {
    "annotate",
    "evaluation",
    "gateway",
    "hf_api",
    "metrics",
    "net",
    "openai_api",
    "page",
    "replicate_api",
    "search",
    "webhooks",
}


def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports absolutely."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_the_client_imports_nothing_heavy_and_nothing_of_the_worker() -> None:
    for path in (ROOT / "producer").rglob("*.py"):
        names = imported(path)
        of_extra = path.relative_to(ROOT / "producer").parts[0] in OF_EXTRAS
        assert not names & (HEAVY if of_extra else HEAVY | EXTRA), path
        assert "producer" not in names, f"{path}: the wheel calls this package blipline"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: files of an earlier build in the tree would be in the wheel.
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    bytecode = shutil.ignore_patterns("__pycache__")
    for folder in ("producer", "worker", "config", "deploy/wheel"):
        shutil.copytree(ROOT / folder, source / folder, ignore=bytecode)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # The call of every build tool, which starts a process for it.
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    command = [sys.executable, "-c", build]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=100)
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_one_package_under_a_unique_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"blipline"}


def test_the_wheel_has_all_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("blipline/") for name in archive.namelist()}
    files = {str(path.relative_to(ROOT / "producer")) for path in files_below("producer", "*")}
    for package in ("worker", "config"):
        code = (path.relative_to(ROOT) for path in files_below(package, "*.py"))
        files |= {f"worker_root/{path}" for path in code}
    assert files <= names


def files_below(folder: str, pattern: str) -> list[Path]:
    paths = (ROOT / folder).rglob(pattern)
    return [path for path in paths if path.is_file() and "__pycache__" not in path.parts]


@pytest.fixture(scope="module")
def full_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the wheel, and with the dependencies of this run."""
    folder = tmp_path_factory.mktemp("full")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(dependencies)
    return folder / "bin" / "python"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a web backend whose packages have the names of Blipline's own."""
    for name in ("config", "producer", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    return tmp_path


def test_the_wheel_works_beside_a_django_project_with_a_config_of_its_own(
    full_environment: Path, redis_url: str, project: Path
) -> None:
    program = (
        "import blipline, config; assert config.MINE;"
        f"client = blipline.Client({redis_url!r});"
        "print(client.caption('https://x/y.png').status());"
        "client.close()"
    )
    done = run_in(project, full_environment, "-c", program)
    assert done.stdout.strip() == "queued", done.stderr


#: The command line without the current folder on its path, as the program `blipline` runs.
PROGRAM = ("-P", "-m", "blipline.cli")


def test_the_wheel_runs_its_worker_beside_that_project(
    full_environment: Path, project: Path
) -> None:
    done = run_in(project, full_environment, *PROGRAM, "worker", "--help")
    assert done.stdout.startswith("usage: python -m worker"), done.stderr
    done = run_in(project, full_environment, *PROGRAM, "worker", "--precision", "int3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "BLIPLINE_PRECISION" in done.stderr


@pytest.mark.exhaustive
def test_the_wheel_captions_a_folder_with_a_worker_of_its_own(
    full_environment: Path, project: Path
) -> None:
    shutil.copy(ROOT / "demo" / "images" / "scene-01.png", project)
    command = ("annotate", ".", "--local", "--model", str(ROOT / "demo" / "model"))
    done = run_in(project, full_environment, *PROGRAM, *command)
    assert done.returncode == 0, done.stderr
    assert (project / "scene-01.txt").read_text().strip()


def test_the_extra_of_the_worker_has_the_versions_that_the_tests_run_against() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = set(extras["optional-dependencies"]["worker"]) - {"blipline[annotate,gateway]"}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    # ModelScope and the page have extras of their own; Flower watches workers.
    assert packages <= set(lines)
    imported_packages = {"celery", "kombu", "numpy", "peft", "torch", "transformers"}
    assert imported_packages <= {line.partition("==")[0] for line in packages}


@pytest.fixture(scope="module")
def base_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment with the wheel and its dependencies, no extras."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    # The pip of this run: ensurepip would take longer than the installation.
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-input"]
    quiet = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-compile"]
    subprocess.run([*command, *quiet, str(wheel)], check=True, capture_output=True, timeout=200)
    return python.parent


def test_the_wheel_alone_is_a_client(
    base_environment: Path, redis_url: str, tmp_path: Path
) -> None:
    program = (
        "from blipline import Client; import sys;"
        f"client = Client({redis_url!r}); print(client.caption('https://x/y.png').status());"
        "client.close();"
        f"assert not {EXTRA | {'click', 'rich', 'PIL'}} & set(sys.modules)"
    )
    done = run_in(tmp_path, base_environment / "python", "-c", program)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "queued", "")


@pytest.mark.parametrize(
    "command",
    [
        ["blipline", "--help"],
        ["blipline"],
        ["blipline", "caption", "x.jpg"],
        ["python", "-m", "blipline.cli"],
    ],
    ids=" ".join,
)
def test_the_wheel_alone_says_what_its_commands_need(
    base_environment: Path, tmp_path: Path, command: list[str]
) -> None:
    done = run_in(tmp_path, base_environment / command[0], *command[1:])
    assert (done.returncode, done.stdout) == (1, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("blipline: the command line needs click and rich: ")
    assert "pip install '.[cli]'" in sentence
    assert "the extra `worker` also brings a worker" in sentence


def run_in(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, which has no sources of this package."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
