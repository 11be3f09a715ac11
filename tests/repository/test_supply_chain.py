"""What is installed is what was locked, and workflows have no more rights than they need."""

import platform
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from support import ROOT

from digits.core import config

LOCKS = ("requirements.txt", "requirements-dev.txt")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    packages = (
        r"(-r requirements\.txt\n)?"
        r"(^[\w-]+==\S+( ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n)+"
    )
    assert re.fullmatch(packages, text, re.MULTILINE)


def test_the_lock_for_development_repeats_no_package_and_agrees_with_the_other() -> None:
    names = [re.findall(r"^([\w-]+)==", (ROOT / name).read_text("utf-8"), re.MULTILINE) for name in LOCKS]
    assert len(names[0]) > 100
    assert not set(names[0]) & set(names[1])
    subprocess.run([Path(sys.executable).parent / "uv", "pip", "check", "--python", sys.executable], check=True)


def test_every_locked_package_accepts_this_version_of_python() -> None:
    """Unlike pip, uv installs packages that exclude newer versions."""
    needed = {item.name: SpecifierSet(str(item.metadata.json.get("requires_python", ""))) for item in distributions()}
    version = platform.python_version()
    assert [name for name, versions in needed.items() if version not in versions] == []


def test_workflows_can_only_read_and_pin_every_action() -> None:
    workflows = [config.parse_fast(path.read_text("utf-8")) for path in ROOT.glob(".github/workflows/*")]
    jobs = {name: job for workflow in workflows for name, job in workflow["jobs"].items()}
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert {"audit", "comment", "faults", "review", "tests"} <= jobs.keys()
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    assert [workflow["name"] for workflow in workflows if workflow["permissions"] != {"contents": "read"}] == []
    further = {name: job["permissions"] for name, job in jobs.items() if "permissions" in job}
    assert further == {"comment": {"pull-requests": "write"}}
    assert "actions/checkout" not in str(jobs["comment"])
