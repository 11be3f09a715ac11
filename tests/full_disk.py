"""Run in namespaces of its own by test_faults_pipeline.py: each stage on a small disk that is full.

Arguments: a repository whose pipeline has been run, a folder to mount the small disk on, and the KiB that are left
free, separated by commas. Prints one JSON list a run: the stage, the KiB, its exit status, its standard error, and the
outputs that were there afterwards with another content than an undisturbed run gives them.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import environment, run
from test_faults_pipeline import STAGES, different, outputs

SIZE = 40 << 20  # bytes of the small disk


def fill(path: Path, free: int) -> None:
    """Take all of a disk but `free` KiB."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 12)):
                pass
        except OSError:
            file.truncate(max(file.tell() - free * 1024, 0))


def main(pristine: Path, disk: Path, free: list[int]) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", disk], check=True)
    folder = disk / "clone"
    shutil.copytree(pristine, folder, symlinks=True)
    (folder / "tmp").mkdir()
    for kibibytes in free:
        for stage in STAGES:
            for out in outputs(folder, stage):  # as DVC does, but for data/raw, which persists
                if out.is_dir() and stage != "download":
                    shutil.rmtree(out)
                elif out.is_file():
                    out.unlink()
            if stage == "download":
                (folder / "data/raw/train-images-idx3-ubyte").unlink()
            fill(disk / "fill", kibibytes)
            result = subprocess.run(  # with its temporary files on that disk, too
                [sys.executable, "src", *stage.split("@")],
                cwd=folder,
                env=environment(TMPDIR=str(folder / "tmp")),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            (disk / "fill").unlink()
            wrong = [str(path) for path in different(folder, pristine, stage)]
            print(json.dumps([stage, kibibytes, result.returncode, result.stderr, wrong]), flush=True)
            for out in outputs(folder, stage):
                if (pristine / out.relative_to(folder)).is_dir():
                    shutil.copytree(pristine / out.relative_to(folder), out, dirs_exist_ok=True)
                else:
                    shutil.copy(pristine / out.relative_to(folder), out)
    shutil.rmtree(folder / "tmp")
    assert run(folder, "git", "status", "--porcelain") == ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(free) for free in sys.argv[3].split(",")])
