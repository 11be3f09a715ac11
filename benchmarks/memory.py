"""Peak memory of a process, with the standard library only, because imports would add to the memory."""

import platform
import re
import resource
from pathlib import Path


def peak_bytes() -> int:
    """Return the peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    # On Linux, ru_maxrss starts at the value of the parent process; VmHWM does not.
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
