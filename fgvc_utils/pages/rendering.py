"""Templates to a page in one file: no script, no network, and names are text and never markup."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.naming import in_line
from fgvc_utils.pages.figures import duration, plain
from fgvc_utils.pages.photos import short

HERE = Path(__file__).parent


class Part(NamedTuple):
    """A part of a page: what it shows, or why it cannot be shown."""

    shown: Any
    error: str


def part(make: Callable[..., Any], *arguments: Any) -> Part:
    """Make a part of a page; a file that cannot be read costs that part and no other."""
    try:
        return Part(make(*arguments), "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return Part(None, f"{type(error).__name__}: {in_line(str(error))[:500]}")


def write(template: str, path: Path, **values: Any) -> Path:
    """Fill a template and write the page, whole or not at all.

    Parameters
    ----------
    template : str
        A file beside this module.
    path : Path
        The page.
    values
        What the template shows.

    Returns
    -------
    Path
        The page.
    """
    style = (HERE / "style.css").read_text("utf-8")
    text = _environment().get_template(template).render(style=style, **values)
    with whole_file(path) as temporary:
        # A name that is no text, as a file system may hold, must not cost the page.
        temporary.write_text(text, "utf-8", errors="replace")
    return path


@functools.cache
def _environment() -> Any:
    """What fills templates; every value is escaped but the style sheet."""
    # It takes its time to load, and a plan or a check needs no page.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "duration": duration,
        "plain": plain,
        "short": short,
        "line": lambda name: in_line(str(name)),
        "link": link,
        "count": count,
    }
    return environment


def percent(share: float | None) -> str:
    """A share with one digit: 74.1 %; a dash where it is not known."""
    return "–" if share is None else f"{100 * share:.1f} %"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return "–" if difference is None else f"{100 * difference:+.1f}"


def count(number: int | None) -> str:
    """A number with its thousands apart."""
    return "–" if number is None else f"{number:,}"


def link(path: str) -> str:
    """A path below the page's folder as an address."""
    return quote(str(path), safe="/", errors="replace")
