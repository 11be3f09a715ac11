"""`make environment` with a package made here, so that no test needs a registry."""

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pip
import pytest
from support import ROOT, run

UV = Path(sys.executable).parent / "uv"


def make_wheel(folder: Path, name: str, path: str, content: str) -> str:
    """Write a wheel of a package with one executable file, and return the lines of the package in a lock."""
    files = {
        path: content,
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.dist-info/RECORD": "",
    }
    wheel = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
    return pin(name, hashlib.sha256(wheel.read_bytes()).hexdigest())


def pin(name: str, digest: str) -> str:
    return f"{name}==1 \\\n    --hash=sha256:{digest}\n"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with this Makefile, an environment with pip alone, a lock of one package, and one with uv."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (tmp_path / "requirements.txt").write_text(make_wheel(wheels, "tiny", "tiny/__init__.py", ""), "utf-8")
    uv = make_wheel(wheels, "uv", "uv-1.data/scripts/uv", f'#!/bin/sh\nexec {UV} "$@"\n')
    (tmp_path / "requirements-dev.txt").write_text(pin("other", "0" * 64) + uv + pin("zip", "0" * 64), "utf-8")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    (packages,) = tmp_path.glob(".venv/lib/python*/site-packages")
    (packages / "pip").symlink_to(Path(pip.__file__).parent)  # takes no time
    for name in (".venv/bin/pip", "pyproject.toml", ".venv/pyproject.toml"):  # as if this package were installed
        (tmp_path / name).touch()
    return tmp_path


def make(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    wheels = str(folder / "wheels")
    environment = {
        "PATH": "/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels,
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": wheels,
        "UV_NO_CACHE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    settings = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "--no-print-directory", "environment", f"PYTHON={sys.executable}", *settings]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def is_installed(folder: Path) -> bool:
    """Tell whether the package is installed with its byte-code."""
    return bool(list(folder.glob(".venv/lib/python*/site-packages/tiny/__pycache__/__init__.*.pyc")))


def test_uv_is_installed_and_installs_a_changed_lock_with_byte_code(bare: Path) -> None:
    result = make(bare)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "Installing requirements.txt into .venv with uv\n"
    assert is_installed(bare)
    again = make(bare)
    assert (again.returncode, again.stdout) == (0, "")
    with (bare / "requirements.txt").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert make(bare).stdout == result.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"UV": "/bin/false"}, "uv failed: installing with pip\n"),
        ({}, "uv failed: installing with pip\n"),  # uv cannot be installed
        ({"INSTALLER": "pip"}, "Installing requirements.txt into .venv with pip\n"),
    ],
)
def test_pip_installs_the_lock_if_uv_fails_or_if_it_is_asked_for(
    bare: Path, variables: dict[str, str], said: str
) -> None:
    (bare / "requirements-dev.txt").write_text(pin("uv", "1" * 64), "utf-8")
    result = make(bare, **variables)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(said)
    assert is_installed(bare)


@pytest.mark.parametrize("uv", [str(UV), "/bin/false"])
@pytest.mark.parametrize("pinned", [pin("tiny", "1" * 64), "tiny==1\n"])
def test_a_package_with_another_hash_or_without_one_is_refused(bare: Path, pinned: str, uv: str) -> None:
    (bare / "requirements.txt").write_text(pinned, "utf-8")
    assert make(bare, UV=uv).returncode != 0
    assert not is_installed(bare)
    assert not (bare / ".venv/requirements.txt").exists()


def test_without_git_nothing_is_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    message, end = run(tmp_path, "make", "--no-print-directory", "repro", fails=True).splitlines()
    assert message.startswith(
        "This folder is not a Git repository; perhaps it was unpacked from an archive. Get it with "
    )
    assert re.match(r"make(\[\d+\])?: \*\*\* ", end)  # with a number if make runs the tests
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
