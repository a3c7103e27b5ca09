"""An entry for ranks that compile without a compiler: graphs are taken, and run as they are."""

from fgvc_utils.training import compiling, worker


def run(launch_file: str) -> None:
    """Carry out the jobs of a launch file."""
    compiling.BACKEND = "eager"
    worker.run(launch_file)
