"""Processes that a test starts record GPUs as it does: Paddle has its stand-ins as soon as it is imported."""

import importlib.abc
import importlib.machinery
import os
import sys


class _Recorded(importlib.abc.MetaPathFinder):
    """Finds Paddle once, and puts the stand-ins in it."""

    def find_spec(self, name, path=None, target=None):
        if name != "paddle":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            from tests.gpu.recorded import COUNT, Gpus

            Gpus(int(os.environ[COUNT])).install()

        spec.loader.exec_module = exec_module
        return spec


if "RUNNER_RECORDED_GPUS" in os.environ:
    sys.meta_path.insert(0, _Recorded())
