"""`dvc push` and `dvc pull` over the S3 protocol: moto's server on loopback, and a line to it that can be cut."""

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

import boto3
import pytest
import requests
from conftest import ROOT, copy_repository, reproduce, run
from dvc.config import Config
from moto.server import ThreadedMotoServer

pytestmark = pytest.mark.timeout(240)

SECTION = (ROOT / "README.md").read_text("utf-8").partition("## Share data and results\n")[2].partition("\n## ")[0]
COMMANDS = [
    shlex.split(line, comments=True) for line in SECTION.partition("```sh\n")[2].partition("```")[0].splitlines()
]
PUSH, PULL = ["dvc", "push"], ["dvc", "pull"]
HELP = (ROOT / "docs/sharing.md").read_text("utf-8")
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}]}


class Line(ThreadingTCPServer):
    """Carries connections on to a server until `limit` bytes have gone over it, in both directions: then it is dead."""

    daemon_threads = True

    def __init__(self, url: str, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), Carrier)
        parts = urlsplit(url)
        self.target = (str(parts.hostname), int(parts.port or 80))
        self.left, self.lock = limit, threading.Lock()

    def carries(self, count: int) -> bool:
        with self.lock:
            self.left -= count
            return self.left > 0


class Carrier(BaseRequestHandler):
    server: Line

    def handle(self) -> None:
        if self.server.carries(0):
            with socket.create_connection(self.server.target) as onward:
                back = threading.Thread(target=self.carry, args=(onward, self.request))
                back.start()
                self.carry(self.request, onward)
                back.join()

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(1 << 14)) and self.server.carries(len(data)):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Storage:
    """The bucket of README's address on a server, and the variables by which its one user comes to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        nobody = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
        iam = boto3.client("iam", endpoint_url=url, **nobody)
        iam.create_user(UserName="digits")
        iam.put_user_policy(UserName="digits", PolicyName="digits", PolicyDocument=json.dumps(POLICY))
        self.key = iam.create_access_key(UserName="digits")["AccessKey"]
        boto3.client("s3", endpoint_url=url, **nobody).create_bucket(Bucket="my-bucket")
        key = {"aws_access_key_id": self.key["AccessKeyId"], "aws_secret_access_key": self.key["SecretAccessKey"]}
        self.bucket = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **key).Bucket("my-bucket")
        self.check_credentials_after(0)

    def check_credentials_after(self, requests_: float) -> None:
        requests.post(f"{self.url}/moto-api/reset-auth", str(requests_), timeout=10).raise_for_status()

    def variables(self, **changes: str) -> dict[str, str]:
        """What a command needs in its environment to come to the bucket."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.key["SecretAccessKey"],
            **changes,
        }

    def objects(self, folder: str) -> dict[str, bytes]:
        """What lies under a folder of the bucket, by its hash."""
        prefix = f"{folder}/files/md5/"
        return {
            item.key.removeprefix(prefix).replace("/", ""): item.get()["Body"].read()
            for item in self.bucket.objects.filter(Prefix=prefix)
        }

    @contextlib.contextmanager
    def cut_after(self, count: int) -> Iterator[dict[str, str]]:
        """The variables of a command whose line to the server dies once `count` bytes have gone over it."""
        with Line(self.url, count) as line:
            thread = threading.Thread(target=line.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield self.variables(AWS_ENDPOINT_URL=f"http://127.0.0.1:{line.server_address[1]}")
            line.shutdown()
            thread.join()
            assert line.left <= 0


@pytest.fixture(scope="module", autouse=True)
def nothing_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests may have an account: none of its settings reaches them."""
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
def storage(nothing_of_the_users: None) -> Iterator[Storage]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    storage = Storage(f"http://{host}:{port}")
    yield storage
    storage.check_credentials_after(float("inf"))
    server.stop()


@pytest.fixture(scope="module")
def results(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with results, to which README's commands have given its remote."""
    folder = tmp_path_factory.mktemp("results")
    copy_repository(folder, raw, variants=["softmax"], train__epochs=1)
    reproduce(folder)
    for command in COMMANDS:
        if command not in (PUSH, PULL):
            run(folder, *command)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pushed(results: Path, storage: Storage) -> str:
    """What `dvc push` printed in that repository."""
    return run(results, *PUSH, variables=storage.variables())


@pytest.fixture
def second(results: Path, tmp_path: Path) -> Path:
    """A second clone, with an empty cache."""
    run(tmp_path, "git", "clone", "-q", str(results), "second")
    return tmp_path / "second"


def cached(folder: Path) -> dict[str, bytes]:
    """The files of a repository's cache that `dvc.lock` names, by their hash."""
    cache = folder / ".dvc/cache/files/md5"
    found = {"".join(path.relative_to(cache).parts): path.read_bytes() for path in cache.glob("*/*")}
    return {name: content for name, content in found.items() if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name)}


def whole(objects: dict[str, bytes]) -> bool:
    """Whether each object is what its name says, and each folder's files are all there."""
    folders = [json.loads(content) for name, content in objects.items() if name.endswith(".dir")]
    return all(hashlib.md5(content).hexdigest() == name[:32] for name, content in objects.items()) and all(
        item["md5"] in objects for files in folders for item in files
    )


def assert_nothing_is_left_to_do(folder: Path) -> None:
    output = run(folder, "dvc", "repro")
    assert "Data and pipelines are up to date." in output
    assert "Running stage" not in output
    assert run(folder, "digits", "drift") == ""
    assert run(folder, "git", "status", "--porcelain") == ""


def test_a_second_clone_pulls_from_s3_and_has_nothing_to_do(
    results: Path, storage: Storage, pushed: str, second: Path
) -> None:
    assert storage.objects("digits").items() <= cached(results).items()
    run(second, *PULL, variables=storage.variables())
    assert cached(second) == storage.objects("digits")
    assert_nothing_is_left_to_do(second)


def test_a_second_clone_pulls_from_a_shared_folder_and_has_nothing_to_do(
    results: Path, second: Path, tmp_path: Path
) -> None:
    for folder in (results, second):
        run(folder, "dvc", "remote", "add", "--local", "folder", str(tmp_path / "shared"))
    run(results, "dvc", "push", "--remote", "folder")
    run(second, "dvc", "pull", "--remote", "folder")
    assert_nothing_is_left_to_do(second)


def test_a_push_that_is_cut_leaves_nothing_half_and_a_second_one_completes(
    results: Path, storage: Storage, pushed: str
) -> None:
    everything = storage.objects("digits")
    run(results, "dvc", "remote", "add", "--local", "again", "s3://my-bucket/again")
    with storage.cut_after(sum(map(len, everything.values())) * 2 // 3) as variables:
        output = run(results, "dvc", "push", "--remote", "again", variables=variables, fails=True)
    assert_explained("Connection was closed before we received a valid response", output)
    arrived = storage.objects("again")
    assert whole(arrived)
    assert 0 < len(arrived) < len(everything)
    output = run(results, "dvc", "push", "--remote", "again", variables=storage.variables())
    assert f"{len(everything) - len(arrived)} files pushed" in output
    assert storage.objects("again") == everything


def test_a_pull_that_is_cut_leaves_nothing_half_and_a_second_one_completes(
    storage: Storage, pushed: str, second: Path
) -> None:
    everything = storage.objects("digits")
    with storage.cut_after(sum(map(len, everything.values())) * 2 // 3) as variables:
        output = run(second, *PULL, variables=variables, fails=True)
    assert_explained("Connection was closed before we received a valid response", output)
    arrived = cached(second)
    assert arrived.items() < everything.items()
    assert arrived
    run(second, *PULL, variables=storage.variables())
    assert cached(second) == everything


def test_a_model_that_was_changed_on_the_server_is_refused_and_comes_from_another_address(
    results: Path, storage: Storage, pushed: str, second: Path
) -> None:
    model = (results / "models/softmax/model.keras").read_bytes()
    digest = hashlib.md5(model).hexdigest()
    stored = storage.bucket.Object(f"digits/files/md5/{digest[:2]}/{digest[2:]}")
    stored.put(Body=model[:-1] + b"?")
    output = run(second, *PULL, variables=storage.variables(), fails=True)
    stored.put(Body=model)
    assert_explained("Checkout failed for following targets", output)
    assert "models/softmax" in output
    assert not (second / "models/softmax").exists()
    assert digest not in cached(second)

    for folder, command in ((results, PUSH), (second, PULL)):
        run(folder, "dvc", "remote", "modify", "--local", "storage", "url", "s3://my-bucket/anew")
        run(folder, *command, variables=storage.variables())
    assert (second / "models/softmax/model.keras").read_bytes() == model
    run(results, "dvc", "remote", "modify", "--local", "--unset", "storage", "url")


def test_a_push_does_not_look_again_at_what_the_server_has(results: Path, storage: Storage, pushed: str) -> None:
    """So docs/sharing.md sends a reader whose storage was changed to another address."""
    model = (results / "models/softmax/model.keras").read_bytes()
    digest = hashlib.md5(model).hexdigest()
    stored = storage.bucket.Object(f"digits/files/md5/{digest[:2]}/{digest[2:]}")
    stored.delete()
    assert "Everything is up to date." in run(results, *PUSH, variables=storage.variables())
    stored.put(Body=model)


def assert_explained(message: str, output: str) -> None:
    """README sends a reader of this message to docs/sharing.md, which must have it as DVC prints it."""
    assert message in output
    assert "Traceback" not in output
    assert f"| `{message}" in HELP


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
def test_a_mistake_in_the_environment_is_one_line_that_the_docs_explain(
    results: Path, storage: Storage, pushed: str, message: str, changes: dict[str, str]
) -> None:
    before = storage.objects("digits")
    output = run(results, "dvc", "push", variables=storage.variables(**changes), fails=True)
    assert_explained(message, output)
    assert output.count("ERROR") == 1
    assert storage.objects("digits") == before


def test_a_bucket_that_is_missing_is_named_by_its_error(results: Path, storage: Storage) -> None:
    run(results, "dvc", "remote", "add", "--local", "missing", "s3://their-bucket/digits")
    output = run(results, "dvc", "push", "--remote", "missing", variables=storage.variables(), fails=True)
    assert_explained("The specified bucket does not exist", output)


def test_without_the_extra_the_message_names_what_is_missing(results: Path, tmp_path: Path) -> None:
    (tmp_path / "dvc_s3.py").write_text("raise ImportError\n", "utf-8")
    output = run(results, "dvc", "push", variables={"PYTHONPATH": str(tmp_path)}, fails=True)
    assert_explained("s3 is supported, but requires 'dvc-s3' to be installed", output)


def test_readme_pushes_then_pulls_and_its_addresses_are_taken_by_dvc() -> None:
    assert COMMANDS[-2:] == [PUSH, PULL]
    urls = re.findall(r"^\| [^|]+ \| `([^`]+)` \|", SECTION, re.MULTILINE)
    assert [url.partition(":")[0] for url in urls] == ["s3", "gs", "azure", "ssh", "/mnt/shared/digits"]
    for url in urls:
        Config.validate({"remote": {"storage": {"url": url, "verify": True}}})
