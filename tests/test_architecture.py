"""The plan of the house: which folder may import which, what each may know, and how large it may become."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner

PACKAGE = Path(runner.__file__).parent
#: From the ground up: a module or folder imports only what stands on a floor below its own.
FLOORS = (
    ("child", "colours", "errors", "metrics", "terminal"),
    ("files", "stored"),
    ("config", "images", "processes"),
    ("device", "models"),
    ("compression", "runs"),
    ("kernels",),
    ("data", "parallel"),
    ("training",),
    ("checkpoints",),
    ("deploy",),
    ("report", "tracking"),
    ("launch", "worker"),
    ("cli",),
    ("__main__",),
)
#: What must start within a tenth of a second, and what a researcher reads without knowing the rest.
IGNORANT = {
    "__main__": {"paddle", "mlflow"},
    "cli": {"paddle", "mlflow"},
    "config": {"paddle", "mlflow", "hydra"},
    "launch": {"paddle", "mlflow", "hydra"},
    "runs": {"paddle", "mlflow", "hydra"},
    "training": {"mlflow", "hydra"},
    "checkpoints": {"mlflow", "hydra"},
    "deploy": {"mlflow", "hydra"},
    "worker": {"mlflow", "hydra"},
}
MOST_ROOMS, MOST_FLOORS = 26, 14
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path, everywhere: bool = True) -> Iterator[str]:
    """The modules that a module imports, with dots; without those within functions unless `everywhere`."""
    package = ["runner", *path.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def upward(path: Path, modules: Iterator[str]) -> set[str]:
    """Imports that lead to the same floor in another room, or to a higher one."""
    own = room(path)
    parts = [name.split(".") for name in modules]
    inside = {name[1] for name in parts if name[0] == "runner" and len(name) > 1 and name[1] in FLOOR}
    return {other for other in inside if other != own and FLOOR[other] >= FLOOR[own]}


def test_every_module_and_folder_has_a_floor():
    assert {room(path) for path in SOURCES} == set(FLOOR)
    assert len(FLOOR) <= MOST_ROOMS
    assert len(FLOORS) <= MOST_FLOORS


def test_imports_lead_downwards():
    found = {str(path.relative_to(PACKAGE)): upward(path, imports(path)) for path in SOURCES}
    assert not {path: rooms for path, rooms in found.items() if rooms}


def test_that_check_sees_an_import_that_leads_up(tmp_path):
    path = PACKAGE / "training" / "loop.py"
    assert upward(path, iter(["runner.data.loaders", "numpy"])) == set()
    assert upward(path, iter(["runner.cli.train.train", "runner.parallel.Ranks"])) == {"cli"}


@pytest.mark.parametrize("name", IGNORANT)
def test_folders_do_not_import_what_they_need_not_know(name):
    found = {
        f"{path.relative_to(PACKAGE)}: {module}"
        for path in SOURCES
        if room(path) == name
        for module in imports(path, everywhere=name == "training")
        if module.split(".")[0] in IGNORANT[name] and not (name == "cli" and module.startswith("hydra"))
    }
    assert not found


#: What allocates in Paddle's default dtype, which a program may change → the place of the dtype among its arguments.
ALLOCATING = {
    "empty": 1, "zeros": 1, "ones": 1, "rand": 1, "randn": 1, "uniform": 1, "full": 2, "eye": 2, "arange": 3,
    "linspace": 3, "to_tensor": 1, "create_parameter": 1,
}  # fmt: skip


def without_dtype(tree: ast.AST) -> list[str]:
    """Calls of Paddle that allocate without saying a dtype; `to_tensor` takes that of an array."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in calls
        if (name := node.func.attr) in ALLOCATING
        and (ast.unparse(node.func.value) == "paddle" or name == "create_parameter")
        and not any(keyword.arg == "dtype" for keyword in node.keywords)
        and (len(node.args) <= ALLOCATING[name] or ast.unparse(node.func) == "self.create_parameter")
        and (name != "to_tensor" or isinstance(node.args[0], (ast.List, ast.ListComp, ast.Tuple, ast.Constant)))
    ]


def test_tensors_are_allocated_with_a_dtype():
    found = {str(path.relative_to(PACKAGE)): without_dtype(ast.parse(path.read_text())) for path in SOURCES}
    assert not {path: calls for path, calls in found.items() if calls}


def test_that_check_sees_a_tensor_of_the_default_dtype():
    calls = ("paddle.empty([2])", "paddle.full([], 2)", "paddle.to_tensor([x])", "self.create_parameter([2], None)")
    for call in calls:
        assert without_dtype(ast.parse(call))
        assert not without_dtype(ast.parse(f"{call[:-1]}, dtype='float32')"))
    assert not without_dtype(ast.parse("paddle.to_tensor(array)"))
    assert not without_dtype(ast.parse("paddle.empty([2], 'float32')"))
