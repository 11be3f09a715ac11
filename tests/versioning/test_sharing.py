"""The commands of docs/sharing.md, with moto's S3 server on loopback and with a shared folder."""

import contextlib
import hashlib
import json
import os
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import requests
from dvc.config import Config
from dvc.repo import Repo
from moto.server import ThreadedMotoServer
from servers import serving
from support import ROOT, call, run

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("sharing")]

PAGE = (ROOT / "docs/sharing.md").read_text("utf-8")
LINES = PAGE.partition("```sh\n")[2].partition("```")[0].splitlines()
COMMANDS = [words for line in LINES if (words := shlex.split(line, comments=True)) and words[0] != "."]
PUSH, PULL = ["dvc", "push"], ["dvc", "pull"]
MODEL = "models/mlp64"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}]}


class Proxy(ThreadingTCPServer):
    """Forwards connections to a server until `limit` bytes have passed in both directions, then closes all of them."""

    daemon_threads = True

    def __init__(self, url: str, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        parts = urlsplit(url)
        self.target = (str(parts.hostname), int(parts.port or 80))
        self.left, self.lock = limit, threading.Lock()

    def allows(self, count: int) -> bool:
        with self.lock:
            self.left -= count
            return self.left > 0


class Connection(BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        if self.server.allows(0):
            with socket.create_connection(self.server.target) as onward:
                back = threading.Thread(target=self.forward, args=(onward, self.request))
                back.start()
                self.forward(self.request, onward)
                back.join()

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(1 << 14)) and self.server.allows(len(data)):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Storage:
    """The bucket in the page's address on an S3 server, with one user who may use it."""

    def __init__(self, url: str) -> None:
        self.url = url
        requests.post(f"{url}/moto-api/reset", timeout=10).raise_for_status()  # moto's state outlives its server
        anyone = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
        iam = boto3.client("iam", endpoint_url=url, **anyone)
        iam.create_user(UserName="digits")
        iam.put_user_policy(UserName="digits", PolicyName="digits", PolicyDocument=json.dumps(POLICY))
        self.key = iam.create_access_key(UserName="digits")["AccessKey"]
        boto3.client("s3", endpoint_url=url, **anyone).create_bucket(Bucket="my-bucket")
        key = {"aws_access_key_id": self.key["AccessKeyId"], "aws_secret_access_key": self.key["SecretAccessKey"]}
        self.bucket = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **key).Bucket("my-bucket")
        self.check_credentials_after(0)

    def check_credentials_after(self, requests_: float) -> None:
        requests.post(f"{self.url}/moto-api/reset-auth", str(requests_), timeout=10).raise_for_status()

    def variables(self, **changes: str) -> dict[str, str]:
        """Return the environment variables with which a command has access to the bucket."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.key["SecretAccessKey"],
            **changes,
        }

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return the objects under a prefix of the bucket by hash."""
        folder = f"{prefix}/files/md5/"
        return {
            item.key.removeprefix(folder).replace("/", ""): item.get()["Body"].read()
            for item in self.bucket.objects.filter(Prefix=folder)
        }

    def object_of(self, file: Path) -> Any:
        """Return the object with a file's content that `dvc push` stores."""
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        return self.bucket.Object(f"digits/files/md5/{md5[:2]}/{md5[2:]}")

    @contextlib.contextmanager
    def cut_after(self, count: int, folder: Path) -> Iterator[dict[str, str]]:
        """Yield the environment variables of a command that loses its connections after a number of bytes.

        Args:
            count: the number of bytes.
            folder: an empty folder, for Python code that makes s3fs give up at once instead of after some seconds.
        """
        (folder / "sitecustomize.py").write_text("import s3fs\n\ns3fs.S3FileSystem.retries = 1\n", "utf-8")
        with serving(Proxy(self.url, count)) as proxy:
            url = f"http://127.0.0.1:{proxy.server_address[1]}"
            yield self.variables(AWS_ENDPOINT_URL=url, PYTHONPATH=str(folder))
        assert proxy.left <= 0


@pytest.fixture(scope="module", autouse=True)
def without_aws_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the AWS settings of whoever runs the tests."""
    empty = tmp_path_factory.mktemp("aws") / "config"
    empty.touch()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, str(empty))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def storage(without_aws_settings: None) -> Iterator[Storage]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    storage = Storage(f"http://{host}:{port}")
    yield storage
    storage.check_credentials_after(float("inf"))
    server.stop()


@pytest.fixture(scope="module")
def results(clone: Path) -> Path:
    """A repository with results and with the remote that the page's commands add."""
    for command in COMMANDS:
        if command not in (PUSH, PULL):
            run(clone, *command)
    return clone


@pytest.fixture(scope="module")
def pushed(results: Path, storage: Storage) -> str:
    """The output of `dvc push` in that repository."""
    return run(results, *PUSH, variables=storage.variables())


@pytest.fixture
def second(results: Path, tmp_path: Path) -> Path:
    """A second clone, with an empty cache."""
    run(tmp_path, "git", "clone", "-q", str(results), "second")
    return tmp_path / "second"


def set_remote(folder: Path, name: str, url: str) -> None:
    """Set the address of a remote for this repository alone."""
    with (folder / ".dvc/config.local").open("a", encoding="utf-8") as file:
        file.write(f"""['remote "{name}"']\n    url = {url}\n""")


def cached(folder: Path) -> dict[str, bytes]:
    """Return the files in a repository's cache that `dvc.lock` names, by hash."""
    cache = folder / ".dvc/cache/files/md5"
    found = {"".join(path.relative_to(cache).parts): path.read_bytes() for path in cache.glob("*/*")}
    return {name: content for name, content in found.items() if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name)}


def complete(objects: dict[str, bytes]) -> bool:
    """Return whether each object has the hash in its name, and the files of each folder are all there."""
    folders = [json.loads(content) for name, content in objects.items() if name.endswith(".dir")]
    return all(hashlib.md5(content).hexdigest() == name[:32] for name, content in objects.items()) and all(
        item["md5"] in objects for files in folders for item in files
    )


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


def test_a_second_clone_pulls_from_s3_and_is_up_to_date(
    results: Path, storage: Storage, pushed: str, second: Path
) -> None:
    assert storage.objects("digits").items() <= cached(results).items()
    run(second, *PULL, variables=storage.variables())
    assert cached(second) == storage.objects("digits")
    assert_up_to_date(second)


def test_a_second_clone_pulls_from_a_shared_folder_and_is_up_to_date(
    results: Path, second: Path, tmp_path: Path
) -> None:
    for folder in (results, second):
        set_remote(folder, "folder", str(tmp_path / "shared"))
    run(results, "dvc", "push", "--remote", "folder")
    run(second, "dvc", "pull", "--remote", "folder")
    assert_up_to_date(second)


def test_a_push_that_is_cut_short_leaves_whole_objects_and_the_next_completes_it(
    results: Path, storage: Storage, pushed: str, tmp_path: Path
) -> None:
    everything = storage.objects("digits")
    set_remote(results, "again", "s3://my-bucket/again")
    with storage.cut_after(sum(map(len, everything.values())) * 2 // 3, tmp_path) as variables:
        output = run(results, "dvc", "push", "--remote", "again", variables=variables, fails=True)
    assert_explained("Connection was closed before we received a valid response", output)
    arrived = storage.objects("again")
    assert complete(arrived)
    assert 0 < len(arrived) < len(everything)
    output = run(results, "dvc", "push", "--remote", "again", variables=storage.variables())
    assert f"{len(everything) - len(arrived)} files pushed" in output
    assert storage.objects("again") == everything


def test_a_pull_that_is_cut_short_leaves_whole_files_and_the_next_completes_it(
    storage: Storage, pushed: str, second: Path, tmp_path: Path
) -> None:
    everything = storage.objects("digits")
    with storage.cut_after(sum(map(len, everything.values())) * 2 // 3, tmp_path) as variables:
        output = run(second, *PULL, variables=variables, fails=True)
    assert_explained("Connection was closed before we received a valid response", output)
    arrived = cached(second)
    assert arrived.items() < everything.items()
    assert arrived
    run(second, *PULL, variables=storage.variables())
    assert cached(second) == everything


def test_a_model_that_was_changed_in_the_storage_is_refused_and_comes_from_a_new_address(
    results: Path, storage: Storage, pushed: str, second: Path
) -> None:
    file = results / MODEL / "model.keras"
    model, stored = file.read_bytes(), storage.object_of(file)
    stored.put(Body=model[:-1] + b"?")
    output = run(second, *PULL, variables=storage.variables(), fails=True)
    stored.put(Body=model)
    assert_explained("Checkout failed for following targets", output)
    assert MODEL in output
    assert not (second / MODEL).exists()
    assert hashlib.md5(model).hexdigest() not in cached(second)

    local = results / ".dvc/config.local"
    before = local.read_bytes() if local.exists() else b""
    for folder, command in ((results, PUSH), (second, PULL)):
        set_remote(folder, "storage", "s3://my-bucket/new")
        run(folder, *command, variables=storage.variables())
    assert (second / MODEL / "model.keras").read_bytes() == model
    local.write_bytes(before)


def test_a_push_does_not_check_what_the_storage_already_has(results: Path, storage: Storage, pushed: str) -> None:
    """Therefore the page advises a new address if the storage was changed."""
    file = results / MODEL / "model.keras"
    stored = storage.object_of(file)
    stored.delete()
    assert "Everything is up to date." in run(results, *PUSH, variables=storage.variables())
    stored.put(Body=file.read_bytes())


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (
            "An error occurred (403) when calling the HeadObject operation: Forbidden",
            {"AWS_ACCESS_KEY_ID": "AKIAWRONG"},
        ),
        (
            "An error occurred (403) when calling the HeadObject operation: Forbidden",
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
        ),
        ("Unable to locate credentials", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}),
        ("Could not connect to the endpoint URL", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
    ],
)
def test_a_wrong_environment_is_one_line_that_the_page_explains(
    results: Path, storage: Storage, pushed: str, message: str, changes: dict[str, str]
) -> None:
    before = storage.objects("digits")
    output = run(results, *PUSH, variables=storage.variables(**changes), fails=True)
    assert_explained(message, output)
    assert output.count("ERROR") == 1
    assert storage.objects("digits") == before


def test_a_missing_bucket_is_a_message_that_the_page_explains(results: Path, storage: Storage) -> None:
    set_remote(results, "missing", "s3://their-bucket/digits")
    output = run(results, "dvc", "push", "--remote", "missing", variables=storage.variables(), fails=True)
    assert_explained("The specified bucket does not exist", output)


def test_a_missing_dvc_s3_is_a_message_that_the_page_explains(results: Path, tmp_path: Path) -> None:
    (tmp_path / "dvc_s3.py").write_text("raise ImportError\n", "utf-8")
    output = run(results, *PUSH, variables={"PYTHONPATH": str(tmp_path)}, fails=True)
    assert_explained("s3 is supported, but requires 'dvc-s3' to be installed", output)


def test_the_page_pushes_then_pulls_and_dvc_accepts_its_addresses() -> None:
    assert COMMANDS[-2:] == [PUSH, PULL]
    urls = re.findall(r"^\| [^|]+ \| `([^`]+)` \|", PAGE.partition("## What DVC")[0], re.MULTILINE)
    assert [url.partition(":")[0] for url in urls] == ["s3", "gs", "azure", "ssh", "/mnt/shared/digits"]
    for url in urls:
        Config.validate({"remote": {"storage": {"url": url, "verify": True}}})
