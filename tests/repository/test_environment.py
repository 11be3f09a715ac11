"""`make environment` with a package made here, so that no test needs a registry."""

import base64
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import ROOT

# A build backend for the editable installation of a project without code.
BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "project-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("project-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: project\\nVersion: 1\\n")
        wheel.writestr("project-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("project-1.dist-info/RECORD", "")
    return name
"""


def make_wheel(folder: Path) -> str:
    """Write a wheel of a package `tiny`, and return its line in a lock."""
    files = {
        "tiny/__init__.py": b"",
        "tiny-1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}\n")
    path = folder / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr("tiny-1.dist-info/RECORD", "".join(rows) + "tiny-1.dist-info/RECORD,,\n")
    return f"tiny==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this Makefile, a project without code, and a lock of one package."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "wheels").mkdir()
    (folder / "requirements.txt").write_text(make_wheel(folder / "wheels"), "utf-8")
    (folder / "requirements-uv.txt").write_text("uv==0 --hash=sha256:" + "0" * 64 + "\n", "utf-8")
    (folder / "backend.py").write_text(BACKEND, "utf-8")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n', "utf-8"
    )
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    return folder


def make(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    wheels = str(folder / "wheels")
    environment = {
        "PATH": "/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels,
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": wheels,
        "UV_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    settings = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        ["make", "--no-print-directory", "environment", f"PYTHON={sys.executable}", *settings],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bare(project: Path) -> Path:
    """The project with an environment in which nothing is installed."""
    for path in (project / ".venv").glob("*.t*"):  # the copies of the lock and of pyproject.toml
        path.unlink()
    for path in project.glob(".venv/lib/python*/site-packages/tiny*"):
        shutil.rmtree(path)
    return project


def is_installed(folder: Path) -> bool:
    """Tell whether the package is installed with its byte-code."""
    return bool(list(folder.glob(".venv/lib/python*/site-packages/tiny/__pycache__/__init__.*.pyc")))


UV = f"{Path(sys.executable).parent}/uv"


def test_uv_installs_the_lock_with_byte_code_once(bare: Path) -> None:
    result = make(bare, UV=UV)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Installing requirements.txt into .venv with uv\n"
    assert is_installed(bare)
    again = make(bare, UV=UV)
    assert (again.returncode, again.stdout) == (0, "")


def test_a_changed_lock_is_installed_again(bare: Path) -> None:
    make(bare, UV=UV)
    lock = bare / "requirements.txt"
    before = lock.read_text("utf-8")
    lock.write_text(before + "# changed\n", "utf-8")
    assert "Installing requirements.txt" in make(bare, UV=UV).stdout
    lock.write_text(before, "utf-8")


@pytest.mark.parametrize("uv", ["/bin/false", ".venv/bin/uv"])  # uv fails; uv cannot be installed
def test_pip_installs_the_lock_if_uv_fails(bare: Path, uv: str) -> None:
    result = make(bare, UV=uv)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("uv failed: installing with pip\n")
    assert is_installed(bare)


def test_pip_can_be_asked_for(bare: Path) -> None:
    result = make(bare, INSTALLER="pip", UV="/bin/false")
    assert (result.returncode, result.stdout) == (0, "Installing requirements.txt into .venv with pip\n")
    assert is_installed(bare)


@pytest.mark.parametrize("uv", [UV, "/bin/false"])
@pytest.mark.parametrize("pinned", ["tiny==1 --hash=sha256:" + "1" * 64, "tiny==1"])
def test_a_package_with_another_hash_or_without_one_is_refused(bare: Path, pinned: str, uv: str) -> None:
    lock = bare / "requirements.txt"
    before = lock.read_text("utf-8")
    lock.write_text(f"{pinned}\n", "utf-8")
    try:
        assert make(bare, UV=uv).returncode != 0
        assert not is_installed(bare)
        assert not (bare / ".venv/requirements.txt").exists()
    finally:
        lock.write_text(before, "utf-8")


def test_without_git_nothing_is_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "--no-print-directory", "repro"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert result.stdout.startswith(
        "This folder is not a Git repository; perhaps it was unpacked from an archive. Get it with "
    )
    assert result.stdout.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
