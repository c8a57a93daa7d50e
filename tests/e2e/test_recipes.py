"""Every recipe says what it is, how it is called, how long it takes and what comes out, and it runs."""

from __future__ import annotations

import re
import shlex

import paddle
import pytest

from runner import config as cfg
from runner import models
from runner.__main__ import command as run_here
from runner.cli.compose import config_of
from runner.cli.config_dir import config_dir
from runner.runs.journal import RESULT
from tests.conftest import INLINE
from tests.data import official
from tests.real_sets import fetched

FOLDER = config_dir() / "experiment"
RECIPES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
HEADER = re.compile(
    r"# @package _global_\n# \S.*\n(?:# .*\n)*?# Command: (.+)\n# Time: \S.*\n(?:#   .*\n)*# Result: \S.*\n"
)


def command_of(recipe):
    """The command in a recipe's header, as a list of words behind `python -m runner`."""
    found = HEADER.match((FOLDER / f"{recipe}.yaml").read_text())
    assert found, f"{recipe}.yaml begins with a sentence, `# Command:`, `# Time:` and `# Result:`"
    words = shlex.split(found[1])
    assert words[:3] == ["python", "-m", "runner"]
    assert f"experiment={recipe}" in words
    return words[3:]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A finished run of the default network."""
    directory = tmp_path_factory.mktemp("dense") / "run"
    assert run_here([*INLINE, "deploy.formats=[]", f"hydra.run.dir={directory}"]) == 0
    return directory


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A finished run of the teacher's recipe."""
    directory = tmp_path_factory.mktemp("teacher") / "run"
    assert run_here([*INLINE, "experiment=teacher/large", "deploy.formats=[]", f"hydra.run.dir={directory}"]) == 0
    return directory


def finished(folder, recipe, images):
    """A finished run of a recipe on a real set."""
    words = [*INLINE, f"experiment={recipe}", f"data.root={fetched(images)}", "deploy.formats=[]"]
    assert run_here([*words, f"hydra.run.dir={folder / 'run'}"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    """A finished run of a recipe for fine-tuning, of photos."""
    return finished(tmp_path_factory.mktemp("fine_tuned"), "finetune/photos", "stamps")


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """A finished run of the recipe for Fashion-MNIST."""
    return finished(tmp_path_factory.mktemp("clothes"), "fashion/best", "fashion_mnist")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of an EfficientNet-Lite0 for three channels and 1,000 classes."""
    path = tmp_path_factory.mktemp("weights") / "lite0.pdparams"
    paddle.save(models.build(cfg.EfficientNetLite(), 1000).state_dict(), str(path))
    return path


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folders with a few images in the official formats of CIFAR-10 and CIFAR-100."""
    folder = tmp_path_factory.mktemp("sets")
    official.write_cifar10(folder / "cifar10")
    official.write_cifar100(folder / "cifar100")
    return folder


#: Recipe → the fixture with the run that it needs, where it is not that of the default network.
RUNS = {"finetune/distil": "fine_tuned", "finetune/qat": "fine_tuned", "fashion/distil": "clothes"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_can_be_shortened(recipe):
    words = [re.sub(r"\$\(.+\)", "DIR", word) for word in command_of(recipe) if word != "-m"]
    assert config_of([*words, "train.epochs=1"]).train.epochs == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_by_its_command(recipe, dense, teacher, file, sets, tmp_path, request):
    words = command_of(recipe)
    if "-m" in words:
        pytest.importorskip("optuna")
        words += ["sweep.optuna.trials=2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    run = request.getfixturevalue(RUNS[recipe]) if recipe in RUNS else dense
    given = {
        "RUN": run,
        "RUN2": run,
        "FILE": file,
        "outputs/teacher": teacher,
        "DIR": sets / ("cifar10" if "cifar10_" in recipe else "cifar100"),
    }
    words = [
        re.sub(r"(?<==)(RUN2?|FILE|outputs/teacher|DIR)$", lambda found: str(given[found[0]]), word) for word in words
    ]
    # What a shell would put there.
    real = r"\$\(python examples/real_sets\.py (\w+)\)"
    words = [re.sub(real, lambda name: str(fetched(name[1])), word) for word in words]
    small = ["+debug=fast_dev_run", "train.threads=1", "tracking=none", "deploy.bench_s=0.01"]
    where = [] if "-m" in words else [f"hydra.run.dir={tmp_path / 'run'}", "launch.inline=true", "deploy.formats=[]"]
    words = [word for word in words if not word.startswith("hydra.run.dir=outputs")]
    assert run_here([*words, *small, *where]) == 0
    assert len(list(tmp_path.rglob(RESULT))) == (2 if "-m" in words else 1)
