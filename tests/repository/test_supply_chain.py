"""What is installed is what was locked, and workflows have no more rights than they need."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support import ROOT

from digits.core import config

LOCKS = {
    "requirements.txt": 100,
    "requirements-s3.txt": 5,
    "requirements-cluster.txt": 5,
    "requirements-export.txt": 4,
    "requirements-uv.txt": 1,
    "requirements-dev.txt": 150,
}


def locked(name: str) -> dict[str, Version]:
    """Return the packages that a lock installs on this platform, and their versions."""
    lines = re.findall(r"^[^\s#].*==.*$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    requirements = [Requirement(line.removesuffix("\\")) for line in lines]
    return {
        canonicalize_name(requirement.name): Version(next(iter(requirement.specifier)).version)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


@pytest.mark.parametrize(("name", "least"), LOCKS.items())
def test_a_lock_has_hashes_and_names_no_host(name: str, least: int) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pinned) >= least
    assert all("==" in line and line.endswith("\\") for line in pinned)
    assert text.count("--hash=sha256:") >= len(pinned)


def test_the_locks_agree_and_those_of_the_extras_add_to_the_first() -> None:
    run, development = locked("requirements.txt"), locked("requirements-dev.txt")
    assert run.items() <= development.items()
    for extra, package in (("s3", "dvc-s3"), ("cluster", "distributed"), ("export", "tf2onnx"), ("uv", "uv")):
        added = locked(f"requirements-{extra}.txt")
        assert added.items() <= development.items()
        assert not run.keys() & added.keys()
        assert package in added


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
