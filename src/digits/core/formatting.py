"""Numbers as text."""


def percent(share: float, places: int = 2, *, trim: bool = False) -> str:
    """Return a share as a percentage with a number of decimal places, as in "99.50 %"; `trim` removes final zeros."""
    text = f"{share * 100:.{places}f}"
    if trim and places:
        text = text.rstrip("0").rstrip(".")
    return f"{text} %"
