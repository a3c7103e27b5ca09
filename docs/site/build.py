"""Build the site of all pages, notebooks and docstrings: python docs/site/build.py [FOLDER].

README, docs/*.md, the demo's executed notebooks (where it was not run, their sources) and a page
of docstrings a wing are collected in FOLDER/source (build/docs/source). Sphinx makes FOLDER/html of
them, every warning an error, without network; then every link of what it made is followed.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / "build/docs"
# Where the notebooks' executed copies are taken from.
DEMO = PROJECT / "outputs/demo"
# The pages in the order of the site's contents.
FIRST = (
    "install",
    "method",
    "galleries",
    "recipe",
    "parameters",
    "rules",
    "submissions",
    "results",
)
SECOND = (
    "runs",
    "layouts",
    "troubleshooting",
    "pictures",
    "sharing",
    "scale",
    "security",
    "develop",
    "glossary",
)
LINK = re.compile(r"\]\(([^()\s]+)\)")
FOREIGN_IN_CSS = re.compile(r"""(?:url\(|@import)\s*['"]?((?:https?:)?//[^'")]+)""")


def collect(source: Path) -> None:
    """Put all that the site is made of into an empty folder."""
    shutil.rmtree(source, ignore_errors=True)
    pages = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"), PROJECT / "tests/README.md"]
    for page in pages:
        place = page.relative_to(PROJECT)
        to = source / ("index.md" if place == Path("README.md") else place)
        to.parent.mkdir(parents=True, exist_ok=True)
        text = page.read_text("utf-8").replace("../README.md", "../index.md")
        to.write_text(text, "utf-8")
        for file in linked_files(page):
            if file.suffix != ".md":
                (source / file.relative_to(PROJECT)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, source / file.relative_to(PROJECT))
    notebooks = collect_notebooks(source / "notebooks")
    wings = collect_api(source / "api")
    contents = _contents("Pages", [f"docs/{name}" for name in FIRST + SECOND])
    # Several runs of one stage have one heading; the name of the run tells them apart.
    listed = [f"{n} <notebooks/{n}>" if "-" in n else f"notebooks/{n}" for n in notebooks]
    contents += _contents("Notebooks", [*listed, "docs/kaggle_colab"])
    contents += _contents("Code", ["tests/README", *(f"api/{wing}" for wing in wings)])
    with (source / "index.md").open("a", encoding="utf-8") as file:
        file.write(contents)


def linked_files(page: Path) -> Iterator[Path]:
    """The files of the project that a page links to or shows."""
    for target in LINK.findall(page.read_text("utf-8")):
        file = (page.parent / urlsplit(unquote(target)).path).resolve()
        if not urlsplit(target).scheme and file.is_file():
            yield file


def collect_notebooks(folder: Path) -> list[str]:
    """Copy each stage's executed notebooks, or its source where the demo has none; their names."""
    folder.mkdir(parents=True)
    names = []
    for source in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        executed = sorted(DEMO.glob(f"{source.stem}*.ipynb"))
        for path in executed or [source]:
            shutil.copy(path, folder)
            names.append(path.stem)
    return names


def collect_api(folder: Path) -> list[str]:
    """Write a page a wing that shows the docstrings of its modules; the wings' names."""
    folder.mkdir(parents=True)
    package = PROJECT / "fgvc_utils"
    wings = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    for wing in wings:
        lines = [f"fgvc_utils.{wing}", "=" * 40, "", f".. automodule:: fgvc_utils.{wing}", ""]
        for path in sorted((package / wing).rglob("*.py")):
            if path.name.startswith("__"):
                continue
            name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
            lines += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
        (folder / f"{wing}.rst").write_text("\n".join(lines), "utf-8")
    return wings


def _contents(caption: str, pages: list[str]) -> str:
    listed = "\n".join(pages)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


class _Page(HTMLParser):
    """What a page can be pointed at by, and what it points at."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and "href" in values:
            self.loaded.append(values["href"])
        if "src" in values:
            self.loaded.append(values["src"])


def broken_links(site: Path) -> list[str]:
    """What a site's pages point at and is not there, and what they would load from elsewhere."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text("utf-8"))
    found = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https") or parts.netloc:
                if link in page.loaded:
                    found.append(f"{where}: loads {link} from another host")
            elif not parts.scheme:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                if not target.exists():
                    found.append(f"{where}: {link} is not there")
                elif parts.fragment and target in pages:
                    if unquote(parts.fragment) not in pages[target].anchors:
                        found.append(f"{where}: {link} has no such anchor")
    for path in sorted(site.rglob("*.css")):
        for url in FOREIGN_IN_CSS.findall(path.read_text("utf-8")):
            found.append(f"{path.relative_to(site)}: loads {url} from another host")
    return found


def main() -> int:
    """Build the site and follow its links; 0 if all is well."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD
    source, site = folder / "source", folder / "html"
    collect(source)
    shutil.rmtree(site, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-j", "2"]
    sphinx += ["-c", str(Path(__file__).parent), str(source), str(site)]
    if subprocess.run(sphinx, cwd=PROJECT).returncode:
        return 1
    broken = broken_links(site)
    print("\n".join(broken) if broken else f"The site: {site}/index.html")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
