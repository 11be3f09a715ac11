"""How much memory a process has held, without importing anything that would add to it."""

import platform
import re
import resource
from pathlib import Path


def peak_bytes() -> int:
    """Return the most memory that this process has held at once, in bytes."""
    status = Path("/proc/self/status")
    # On Linux, ru_maxrss of a new process begins with that of the process that started it.
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
