"""A worker process: builds what the config says, trains it, writes what a run leaves. `python -m runner.worker`."""

from ..device import import_paddle

import_paddle()
