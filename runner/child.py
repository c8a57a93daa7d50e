"""Runs a module in its own process: `python …/runner/child.py MODULE ARGUMENT…`. Imports nothing before its path.

`python -m` and `python -c` would import whatever has the name of a module in the working directory instead.
"""

import sys

_PACKAGE = __file__.rpartition("/")[0]


def command(module: str, *arguments: str) -> list[str]:
    """The command that starts a module of this package or an installed one, ignoring files in the working directory."""
    return [sys.executable, __file__, module, *arguments]


def _run() -> None:
    sys.path[:] = [place for place in sys.path if place not in ("", _PACKAGE)]
    import importlib.util
    import runpy

    # This package, from where the parent process imported it.
    spec = importlib.util.spec_from_file_location("runner", f"{_PACKAGE}/__init__.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["runner"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["runner"])
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run()
