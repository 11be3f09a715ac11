"""Runs each stage on a small disk that is full; test_faults.py starts it in namespaces of its own.

Arguments: a repository whose pipeline has been run, a folder to mount the small disk on, and the numbers of KiB to
leave free, separated by commas. It prints one JSON list for each run: the stage, the KiB, the exit status, the standard
error, and the outputs that exist afterwards with other content than an undisturbed run writes.
"""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

from stages.test_faults import STAGES, different
from support import environment, outputs

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
    for kibibytes, stage in itertools.product(free, STAGES):
        folder = Path(shutil.copytree(template, disk / "clone", symlinks=True))
        (folder / "tmp").mkdir()
        for out in outputs(folder, stage):
            if stage == "download":  # DVC deletes all outputs but data/raw, which persists
                (out / "train-images-idx3-ubyte").unlink()
            elif out.is_dir():
                shutil.rmtree(out)
            else:
                out.unlink(missing_ok=True)
        fill(disk / "fill", kibibytes)
        # Its temporary files are on the small disk, too.
        command, variables = [sys.executable, "src", *stage.split("@")], environment(TMPDIR=str(folder / "tmp"))
        result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        (disk / "fill").unlink()
        wrong = [str(path) for path in different(folder, template, stage)]
        print(json.dumps([stage, kibibytes, result.returncode, result.stderr, wrong]), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(free) for free in sys.argv[3].split(",")])
