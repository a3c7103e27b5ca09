"""`python -m fgvc_utils.pipeline params/demo.yaml` runs a contest file; see `running`."""

import sys

from fgvc_utils.core.output import make_output_last, use_utf8
from fgvc_utils.core.project import take_project_of
from fgvc_utils.pipeline.interrupts import end_at_once

if __name__ == "__main__":
    # Before the imports, which take a second.
    end_at_once()
    use_utf8()
    make_output_last()
    take_project_of(sys.argv[1:])

    from fgvc_utils.pipeline.running import main

    sys.exit(main())
