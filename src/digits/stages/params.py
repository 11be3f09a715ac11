"""Stage params: check the whole of params.yaml before any other stage runs.

DVC deletes the outputs of a stage before it runs the stage. Because this stage comes first, a mistake in params.yaml
ends the run while all results are still in place. Its output, the schema by which editors check params.yaml, is the
same for all values, so that no other stage runs again because of it.
"""

from digits.core import params, paths
from digits.core.artifacts import write_json
from digits.core.errors import UserError


def run() -> None:
    """Check params.yaml, and write its JSON schema."""
    try:
        params.load(paths.PARAMS)
    except UserError as error:
        if not paths.PARAMS.exists():
            raise
        # A value of `dvc exp run -S` stays in the file.
        raise UserError(f"{error}; `git checkout params.yaml` puts the committed file back") from None
    write_json(paths.SCHEMA, params.json_schema())
