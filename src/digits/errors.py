"""The one exception that is shown to a user without a traceback."""


class UserError(Exception):
    """A mistake that the user can mend: one line that names the thing, the value and what to do."""
