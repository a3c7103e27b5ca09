"""`python -m fgvc_utils.demo FOLDER` draws the demo contest; see `drawing`."""

import sys

from fgvc_utils.demo.drawing import main

if __name__ == "__main__":
    sys.exit(main())
