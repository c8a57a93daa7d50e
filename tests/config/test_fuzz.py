"""Whatever overrides a user types, composing them works or ends with one message and exit code 2."""

from __future__ import annotations

import os
import pickle
import time
from dataclasses import fields, is_dataclass

import hydra
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runner import __main__ as main
from runner import config as cfg
from runner.cli import compose, job, sweep
from runner.cli.config_dir import choices, config_dir
from runner.config import store
from runner.errors import DataError, RunFailed

#: Lists that are tried, the same ones each time; `make test-fuzz` tries a thousand others.
EXAMPLES = int(os.environ.get("RUNNER_FUZZ", "40"))
#: Longest time that one list may take.
LIMIT_S = 20.0


def keys(schema: type, path: str = "") -> list[str]:
    """Every key of a schema and of all choices of its groups."""
    found = []
    for field in fields(schema):
        key = f"{path}{field.name}"
        found.append(key)
        for part in cfg.GROUPS.get(field.name, ()):
            found += keys(part, f"{key}.")
        if field.name == "optuna":
            found += keys(cfg.Optuna, f"{key}.")
        if isinstance(field.default_factory, type) and is_dataclass(field.default_factory):
            found += keys(field.default_factory, f"{key}.")
    return sorted(set(found))


KEYS = keys(cfg.Config)
GROUPS = [f"{sign}{group}={choice}" for group, found in choices().items() for choice in found for sign in ("", "+")]
VALUES = st.one_of(
    st.integers(-3, 10**12).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "null", "true", "false", "???", "[]", "{}", "[1,2", "{a:1}", "${name}", "${no.such}", "${oc.env:HOME}",
         "a=b", "'x", "\"", "\\", "x y", "1,2", "choice(1,2)", "glob(*)", "range(1,3)", "../x", "a/b", "é", "[[1]]",
         "my:target", "os:getcwd", "val/student/top1", "host:1", "cpu", "sum", "1e-400", "0x10", ".5", "-", "--", "*"]
    ),
    st.text(max_size=8),
    st.lists(st.integers(-2, 400).map(str), max_size=4).map(lambda items: f"[{','.join(items)}]"),
)  # fmt: skip
OVERRIDES = st.one_of(
    st.sampled_from(GROUPS),
    st.sampled_from(GROUPS).map(lambda text: f"{text}x"),
    st.builds(lambda key, value: f"{key}={value}", st.sampled_from(KEYS), VALUES),
    st.builds(
        lambda sign, key, value: f"{sign}{key}={value}",
        st.sampled_from(["+", "++", "~"]),
        st.sampled_from(KEYS),
        VALUES,
    ),
    st.builds(lambda key, value: f"{key}.more={value}", st.sampled_from(KEYS), VALUES),
    st.builds(
        lambda group, package, choice: f"{group}@{package}={choice}",
        st.sampled_from(sorted(choices())),
        st.sampled_from(KEYS),
        st.sampled_from(["adamw", "resnet18", "kl", "cosine", "nothing"]),
    ),
    st.text(max_size=12),
)


TRIED = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="RUNNER_FUZZ" not in os.environ, print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture(autouse=True)
def _composed_only(monkeypatch, tmp_path):
    """What was composed is not trained."""

    def composed(*_given: object) -> None:
        raise RunFailed("composed", 0)

    monkeypatch.setattr(job.supervisor, "run", composed)
    monkeypatch.chdir(tmp_path)


@TRIED
@given(st.lists(OVERRIDES, min_size=1, max_size=4))
def test_any_list_of_overrides_composes_or_is_refused_with_a_message(capsys, overrides):
    # A word in front is a verb, and a flag is not an override.
    overrides = ["name=tried", *(text for text in overrides if not text.startswith("-"))]
    began = time.monotonic()
    code = main.command(overrides)
    said = capsys.readouterr()
    # 3: the images that were chosen are not there.
    assert code in (0, 2, 3), (overrides, said.err)
    assert "Traceback" not in said.err + said.out, overrides
    assert code == 0 or said.err.strip(), overrides
    assert time.monotonic() - began < LIMIT_S


@TRIED
@given(st.lists(OVERRIDES, min_size=1, max_size=4))
def test_any_list_of_overrides_plans_a_sweep_or_is_refused_with_a_message(overrides):
    compose.register()
    began = time.monotonic()
    try:
        directory, *_ = sweep.plan_sweep(["name=tried", *overrides])
    except Exception as error:
        explained = compose.explain(error)
        assert explained.exit_code == 2 or isinstance(explained, DataError), overrides
        assert str(explained).strip(), overrides
    else:
        assert directory.name
    assert time.monotonic() - began < LIMIT_S


#: Values of a wrong kind or out of any range.
WRONG = (
    {"a": 1}, [[1]], [{}], [float("nan")] * 3, float("nan"), float("inf"), 1e308, 1e-300,
    -1, 10**400, "", "x" * 5000,
)  # fmt: skip
#: Further overrides that a group, or one choice of it, needs.
NEEDED = {
    "mode=cls_teacher": ["mode.teacher_from=a"],
    "mode=cls_distill": ["mimic=kd", "model@mode.peer=resnet18"],
    "mode=cls_distill_multiopt": ["optimizer@mode.peer_optimizer=sgd", "schedule@mode.peer_schedule=cosine"],
    "features": ["mode=cls_distill", "features.layers=[a]"], "mimic": ["mode=cls_distill"],
    "debug": ["+debug=fast_dev_run"],
    "data=image_folder": ["data.root=a"], "data=files": ["data.train=a"], "data=shards": ["data.train=a"],
    "launch=cluster": ["launch.master=a:1"], "loss=bce": ["data.labels=many"], "loss=asl": ["data.labels=many"],
    "tracking=custom": ["tracking.also.custom.target=a:b"],
}  # fmt: skip


def compositions(group):
    """Name → composition of every choice of a group, pickled; of the default one for what has no choices."""
    compose.register()
    found = {}
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        # The networks of paddle.vision have the same keys.
        alike = {*cfg.ARCHITECTURES} - {"resnet18"}
        for choice in [choice for choice in choices().get(group, [""]) if choice not in alike]:
            name = f"{group}={choice}" * bool(choice and group != "debug")
            target = [f"{group}.target=a:b"] * (choice == "custom" and group != "tracking")
            words = [*NEEDED.get(group, []), *([name] if name else []), *NEEDED.get(name, []), *target]
            found[name] = pickle.dumps(hydra.compose("config", words))
    return found


@pytest.mark.parametrize("group", [field.name for field in fields(cfg.Config) if field.name not in ("also", "sweep")])
def test_a_value_of_a_wrong_kind_or_out_of_range_is_refused_by_the_name_of_its_key(group):
    assert_every_key_is_checked(group, compositions(group))


def test_a_wrong_value_of_a_search_is_refused_by_the_name_of_its_key():
    compose.register()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = hydra.compose(
            "config", ["+sweep/optuna=default", "+sweep.optuna.space={optimizer.lr:{low:1,high:2}}"]
        )
    assert_every_key_is_checked("sweep", {"": pickle.dumps(composed)})


def assert_every_key_is_checked(group, found):
    tried = set()
    for name, composed in found.items():
        config = store.from_composition(pickle.loads(composed))
        for key in store.leaves(config).keys() - tried:
            if key.partition(".")[0] == group:
                tried.add(key)
                for value in WRONG:
                    assert_refused_or_usable(pickle.loads(composed), key, value, name)
    assert tried


def assert_refused_or_usable(composed, key, value, about):
    try:
        # The command puts a `+` before mappings.
        OmegaConf.update(composed, key, value, force_add=isinstance(value, dict))
        config = store.from_composition(composed)
    except Exception as error:
        refused = compose.explain(error)
        message = str(refused)
        assert refused.exit_code == 2, (about, key, value)
        assert key in message, (about, key, value, message)
        assert "full_key" not in message, (about, key, value, message)
    else:
        # What is accepted can be stored, and is then read as the same.
        assert store.typed(store.to_plain(config), cfg.Config, "") == config, (about, key, value)
