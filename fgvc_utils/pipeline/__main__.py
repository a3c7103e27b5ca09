"""`python -m fgvc_utils.pipeline params/demo.yaml` runs a contest file; see `running`."""

import sys

from fgvc_utils.pipeline.running import main

if __name__ == "__main__":
    sys.exit(main())
