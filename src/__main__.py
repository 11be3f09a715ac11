"""`python src <command>` runs the code of this checkout, whichever copy of digits is installed.

DVC runs queued experiments in copies of the repository; an installed `digits` would run the original's code there.
"""

import sys

try:
    from digits.cli import main

    main()
except ModuleNotFoundError as error:
    sys.exit(
        f"digits: {error.name} is not installed for {sys.executable}: type `make repro`, "
        "or activate the environment with `. .venv/bin/activate`"
    )
