"""`python -m fgvc_utils` is the command `fgvc`; see `command.main`."""

import sys

from fgvc_utils.command.main import main

if __name__ == "__main__":
    sys.exit(main())
