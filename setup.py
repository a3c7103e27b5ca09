"""What pyproject.toml cannot say: notebooks, parameter files and pages go into the wheel too.

They stay in folders of their own in a checkout and lie beside the code in a wheel.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = {
    "notebooks": ["*.ipynb"],
    "params": ["*.yaml", "presets/**/*.yaml"],
    "docs": ["*.md", "*.ipynb", "*.png", "*.webp", "*.svg"],
}


class BuildWithNotebooks(build_py):
    """Copies what is shipped besides code into the package that is built."""

    def _shipped(self) -> dict[Path, Path]:
        """From where each file comes → to where it goes."""
        here, to = Path(__file__).resolve().parent, Path(self.build_lib) / "fgvc_utils" / "shipped"
        return {
            file: to / file.relative_to(here)
            for folder, patterns in SHIPPED.items()
            for pattern in patterns
            for file in sorted((here / folder).glob(pattern))
        }

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        # What an earlier build left there may be gone from the sources.
        shutil.rmtree(Path(self.build_lib) / "fgvc_utils" / "shipped", ignore_errors=True)
        for source, target in self._shipped().items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        own = [] if self.editable_mode else list(map(str, self._shipped().values()))
        return super().get_outputs(include_bytecode) + own


setup(cmdclass={"build_py": BuildWithNotebooks})
