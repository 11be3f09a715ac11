"""The one exception that a user sees without a traceback."""


class UserError(Exception):
    """A mistake that the user can fix: one line that names the thing, the value and what to do."""
