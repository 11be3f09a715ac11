"""Numbers as text."""


def percent(share: float, places: int = 2, *, trim: bool = False) -> str:
    """Return a share as a percentage with a number of decimal places, as in "99.50 %"; `trim` removes final zeros."""
    text = f"{share * 100:.{places}f}"
    if trim and places:
        text = text.rstrip("0").rstrip(".")
    return f"{text} %"


def percent_spread(mean: float, std: float | None, places: int = 2) -> str:
    """Return a mean share and its standard deviation, as in "99.50 ± 0.05 %"; without the latter if it is None."""
    return percent(mean, places) if std is None else f"{mean * 100:.{places}f} ± {percent(std, places)}"


def points(share: float, places: int = 2, *, sign: bool = True) -> str:
    """Return a difference of two shares in percentage points, without the unit, as in "+0.12" or "−0.05"."""
    value = round(share * 100, places) or 0.0  # or: no minus sign before zero
    text = f"{value:{'+' if sign and value else ''}.{places}f}"
    return text.replace("-", "\N{MINUS SIGN}")
