"""What is installed is what was locked, and it is known under which licence."""

import hashlib
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

from conftest import ROOT, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from ruamel.yaml import YAML


def locked(name: str) -> dict[str, Version]:
    """The packages that a lock installs on this platform, and their versions."""
    lines = re.findall(r"^[^\s#].*==.*$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    requirements = [Requirement(line.removesuffix("\\")) for line in lines]
    return {
        canonicalize_name(requirement.name): Version(next(iter(requirement.specifier)).version)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def test_the_locks_agree_and_s3_adds_to_the_first() -> None:
    run_, s3, development = (locked(f"requirements{part}.txt") for part in ("", "-s3", "-dev"))
    assert run_.items() <= development.items()
    assert s3.items() <= development.items()
    assert not run_.keys() & s3.keys()
    assert "dvc-s3" in s3


def test_the_licence_of_every_locked_package_is_listed() -> None:
    page = (ROOT / "docs/licenses.md").read_text("utf-8")
    rows = re.findall(r"^\| (\S+) +\| (\d\S*) +\| (.+?) +\|$", page, re.MULTILINE)
    listed = {canonicalize_name(name): Version(version) for name, version, _ in rows}
    assert listed == locked("requirements-dev.txt"), "type: make licenses"
    assert [name for name, _, licence in rows if licence == "UNKNOWN" and f"`{name}`" not in page] == []


def test_a_package_of_another_hash_or_of_none_is_not_installed(tmp_path: Path) -> None:
    wheel = tmp_path / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("parcel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
        archive.writestr("parcel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("parcel-1.0.dist-info/RECORD", "")
    shutil.copy(ROOT / "Makefile", tmp_path)
    variables = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}

    def install(lock: str) -> tuple[str, bool]:
        """What `make environment` printed, and whether the package was installed; the project itself is not there."""
        (tmp_path / "requirements.txt").write_text(lock, "utf-8")
        output = run(tmp_path, "make", "environment", f"PYTHON={sys.executable}", variables=variables, fails=True)
        assert not (tmp_path / ".venv/requirements.txt").exists()
        return output, bool(list(tmp_path.glob(".venv/lib/python*/site-packages/parcel-1.0.dist-info")))

    output, installed = install(f"parcel==1.0 --hash=sha256:{'0' * 64}\n")
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in output
    assert not installed
    output, installed = install("parcel==1.0\n")
    assert "Hashes are required in --require-hashes mode" in output
    assert not installed
    output, installed = install(f"parcel==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    assert installed, output


def test_workflows_read_alone_and_pin_every_action() -> None:
    workflows = [YAML(typ="safe", pure=True).load(path.read_text("utf-8")) for path in ROOT.glob(".github/workflows/*")]
    jobs = {name: job for workflow in workflows for name, job in workflow["jobs"].items()}
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert {"audit", "comment", "review", "tests"} <= jobs.keys()
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    assert [workflow["name"] for workflow in workflows if workflow["permissions"] != {"contents": "read"}] == []
    further = {name: job["permissions"] for name, job in jobs.items() if "permissions" in job}
    assert further == {"comment": {"pull-requests": "write"}}
    assert "actions/checkout" not in str(jobs["comment"])
