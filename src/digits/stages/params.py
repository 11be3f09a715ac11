"""Stage params: check the whole of params.yaml before any other stage runs.

DVC deletes the outputs of a stage before it runs the stage. Because this stage comes first, a mistake in params.yaml
ends the run while all results are still in place. Its output, the schema by which editors check params.yaml, is the
same for all values, so that no other stage runs again because of it.
"""

from digits.core import params, paths
from digits.core.artifacts import write_json


def run() -> None:
    """Check params.yaml, and write its JSON schema."""
    params.load(paths.PARAMS)
    write_json(paths.SCHEMA, params.json_schema())
