"""Stage params: check the whole of params.yaml before anything else is run.

DVC deletes a stage's outputs before it runs the stage; with this stage ahead of all others, a mistake in params.yaml
ends the run while everything is still there. What it writes, the schema by which editors check params.yaml, stays the
same for any values, so that nothing is run again because of it.
"""

from digits import params, paths
from digits.files import write_json


def run() -> None:
    params.load(paths.PARAMS)
    write_json(paths.SCHEMA, params.schema())
