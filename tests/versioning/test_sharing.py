"""The commands of docs/sharing.md, with a shared folder and, as tests of faults, with moto's S3 server on loopback."""

import contextlib
import hashlib
import json
import math
import os
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import pytest
from dvc.config import Config
from dvc.repo import Repo
from moto.moto_server.werkzeug_app import create_backend_app
from servers import serving
from support import ROOT, call, run
from werkzeug.serving import make_server

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("sharing")]

PAGE = (ROOT / "docs/sharing.md").read_text("utf-8")
LINES = PAGE.partition("```sh\n")[2].partition("```")[0].splitlines()
COMMANDS = [words for line in LINES if (words := shlex.split(line, comments=True)) and words[0] != "."]
PUSH, PULL = ["dvc", "push"], ["dvc", "pull"]
MODEL = "models/mlp64"
FORBIDDEN = "An error occurred (403) when calling the HeadObject operation: Forbidden"


@pytest.fixture(scope="module")
def results(clone: Path) -> Path:
    """A repository with results and with the remote that the page's commands add."""
    for command in COMMANDS:
        if command not in (PUSH, PULL):
            run(clone, *command)
    return clone


@pytest.fixture
def second(results: Path, tmp_path: Path) -> Path:
    """A second clone, with an empty cache."""
    run(tmp_path, "git", "clone", "-q", str(results), "second")
    return tmp_path / "second"


def set_address(url: str, *folders: Path) -> None:
    """Set the address of the remote for some repositories alone."""
    for folder in folders:
        (folder / ".dvc/config.local").write_text(f"""['remote "storage"']\n    url = {url}\n""", "utf-8")


def cached(folder: Path) -> dict[str, bytes]:
    """Return the files in a repository's cache that `dvc.lock` names, by hash."""
    cache = folder / ".dvc/cache/files/md5"
    found = {"".join(path.relative_to(cache).parts): path.read_bytes() for path in cache.glob("*/*")}
    return {name: content for name, content in found.items() if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name)}


def assert_up_to_date(folder: Path) -> None:
    with contextlib.chdir(folder), Repo() as repo:
        assert repo.reproduce() == []  # the stages that ran
    assert call(folder, "check-lock") == ""
    assert run(folder, "git", "status", "--porcelain") == ""


def assert_explained(message: str, output: str) -> None:
    """Assert that DVC prints a message that the page explains in the same words."""
    assert message in output
    assert "Traceback" not in output
    assert f"| `{message}" in PAGE


def test_a_second_clone_pulls_from_a_folder_but_no_changed_model(results: Path, second: Path, tmp_path: Path) -> None:
    set_address(str(tmp_path / "shared"), results, second)
    run(results, *PUSH)
    model = (results / MODEL / "model.keras").read_bytes()
    name = hashlib.md5(model).hexdigest()
    stored = tmp_path / "shared/files/md5" / name[:2] / name[2:]
    stored.chmod(0o644)
    stored.write_bytes(model[:-1] + b"?")
    assert "Everything is up to date." in run(results, *PUSH)  # therefore the page advises a new address
    output = run(second, *PULL, fails=True)
    assert_explained("Checkout failed for following targets", output)
    assert MODEL in output
    assert not (second / MODEL).exists()
    assert cached(second).items() == cached(results).items() - {(name, model)}
    set_address(str(tmp_path / "new"), results, second)
    run(results, *PUSH)
    run(second, *PULL)
    assert_up_to_date(second)


def test_the_page_pushes_then_pulls_and_dvc_accepts_its_addresses() -> None:
    assert COMMANDS[-2:] == [PUSH, PULL]
    urls = re.findall(r"^\| [^|]+ \| `([^`]+)` \|", PAGE.partition("## What DVC")[0], re.MULTILINE)
    assert [url.partition(":")[0] for url in urls] == ["s3", "gs", "azure", "ssh", "/mnt/shared/digits"]
    for url in urls:
        Config.validate({"remote": {"storage": {"url": url, "verify": True}}})


class Storage:
    """An S3 server, moto's, with the bucket in the page's address. It refuses the key `wrong`."""

    def __init__(self) -> None:
        self.app = create_backend_app("s3")
        self.left = math.inf  # transfers of objects, the last of them in part, until it drops every connection

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        if "Credential=wrong/" in environ.get("HTTP_AUTHORIZATION", ""):
            start_response("403 Forbidden", [])
            return
        self.left -= environ["REQUEST_METHOD"] != "HEAD" and "/files/md5/" in environ["PATH_INFO"]
        if self.left < 0:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # or it would be reset
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError
        body = b"".join(self.app(environ, start_response))
        yield body if self.left else body[: len(body) // 2]

    @property
    def bucket(self) -> Any:
        return boto3.resource("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).Bucket("my-bucket")

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return the objects under a prefix of the bucket by hash."""
        folder = f"{prefix}/files/md5/"
        return {
            item.key.removeprefix(folder).replace("/", ""): item.get()["Body"].read()
            for item in self.bucket.objects.filter(Prefix=folder)
        }


@pytest.fixture(scope="module")
def storage(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """An S3 server to which the results were pushed; the AWS settings of whoever runs the tests are hidden."""
    empty = tmp_path_factory.mktemp("aws") / "config"
    empty.touch()
    storage = Storage()
    with serving(make_server("127.0.0.1", 0, storage, threaded=True)) as server, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "EC2_METADATA_DISABLED"):
            patch.setenv(f"AWS_{name}", "true")
        patch.setenv("AWS_CONFIG_FILE", str(empty))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty))
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        storage.bucket.create()
        set_address("s3://my-bucket/digits", results)
        run(results, *PUSH)
        yield storage


@pytest.mark.faults
def test_transfers_to_and_from_s3_that_are_cut_short_leave_whole_files_and_the_next_ones_complete_them(
    results: Path, storage: Storage, second: Path
) -> None:
    everything = storage.objects("digits")
    assert everything.items() <= cached(results).items()
    set_address("s3://my-bucket/again", results)
    for folder, command in ((results, PUSH), (second, PULL)):
        storage.left = len(everything) * 3 // 4
        output = run(folder, *command, fails=True)
        storage.left = math.inf
        assert_explained("Connection was closed before we received a valid response", output)
    pushed, pulled = storage.objects("again"), cached(second)
    for arrived in (pushed, pulled):
        assert arrived
        assert arrived.items() < everything.items()
    lists = [json.loads(content) for name, content in pushed.items() if name.endswith(".dir")]
    assert all(file["md5"] in pushed for files in lists for file in files)
    assert f"{len(everything) - len(pushed)} files pushed" in run(results, *PUSH)
    run(second, *PULL)
    assert storage.objects("again") == cached(second) == everything
    assert_up_to_date(second)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("message", "bucket", "changes"),
    [
        (FORBIDDEN, "my-bucket", {"AWS_ACCESS_KEY_ID": "wrong"}),
        ("Unable to locate credentials", "my-bucket", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}),
        ("Could not connect to the endpoint URL", "my-bucket", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
        ("The specified bucket does not exist", "their-bucket", {}),
    ],
)
def test_a_wrong_environment_is_one_line_that_the_page_explains(
    results: Path, storage: Storage, message: str, bucket: str, changes: dict[str, str]
) -> None:
    before = storage.objects("digits")
    set_address(f"s3://{bucket}/digits", results)
    output = run(results, *PUSH, variables=changes, fails=True)
    assert_explained(message, output)
    assert output.count("ERROR") == 1
    assert storage.objects("digits") == before
