"""The texts that `fgvc init` writes and says."""

from pathlib import Path

# The page of a folder that is laid out, with places to fill in.
README = (Path(__file__).parent / "project_readme.md").read_text("utf-8")

HEAD = """\
# A contest of your own. Only what differs from the notebooks' defaults has to be here;
# docs/parameters.md lists all parameters.
"""

IGNORED = """\
.ipynb_checkpoints/
# photos and results are large; human decisions are kept
data/
outputs/*
!outputs/*/
outputs/*/*
!outputs/*/decisions/
"""

NEXT = """\
Next:
  cd {folder}
  fgvc check {name}
  fgvc run {name}"""
