"""Runs each stage on a small disk that is full; test_faults.py starts it in namespaces of its own.

Arguments: a repository whose pipeline has been run, a folder to mount the small disk on, and the numbers of KiB to
leave free, separated by commas. It prints one JSON list for each run: the stage, the KiB, the exit status, the standard
error, and the outputs that exist afterwards with other content than an undisturbed run writes.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from stages.test_faults import STAGES, different
from support import environment, outputs, run

SIZE = 40 << 20  # bytes of the small disk


def fill(path: Path, free: int) -> None:
    """Use all space of a disk but `free` KiB."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 12)):
                pass
        except OSError:
            file.truncate(max(file.tell() - free * 1024, 0))


def main(template: Path, disk: Path, free: list[int]) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", disk], check=True)
    folder = disk / "clone"
    shutil.copytree(template, folder, symlinks=True)
    (folder / "tmp").mkdir()
    for kibibytes in free:
        for stage in STAGES:
            for out in outputs(folder, stage):  # DVC deletes all but data/raw, which persists
                if out.is_dir() and stage != "download":
                    shutil.rmtree(out)
                elif out.is_file():
                    out.unlink()
            if stage == "download":
                (folder / "data/raw/train-images-idx3-ubyte").unlink()
            fill(disk / "fill", kibibytes)
            result = subprocess.run(  # its temporary files are on the small disk, too
                [sys.executable, "src", *stage.split("@")],
                cwd=folder,
                env=environment(TMPDIR=str(folder / "tmp")),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            (disk / "fill").unlink()
            wrong = [str(path) for path in different(folder, template, stage)]
            print(json.dumps([stage, kibibytes, result.returncode, result.stderr, wrong]), flush=True)
            for out in outputs(folder, stage):
                original = template / out.relative_to(folder)
                if original.is_dir():
                    shutil.copytree(original, out, dirs_exist_ok=True)
                else:
                    shutil.copy(original, out)
    shutil.rmtree(folder / "tmp")
    assert run(folder, "git", "status", "--porcelain") == ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(free) for free in sys.argv[3].split(",")])
