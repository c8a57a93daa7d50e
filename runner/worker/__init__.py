"""A worker process: builds, trains and writes one run. `python -m runner.worker`."""

from ..device import import_paddle

import_paddle()
