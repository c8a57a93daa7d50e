"""What a run lacks is said before Paddle is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runner import device
from tests.e2e.processes import ENVIRONMENT

#: Refuses a run in a process of its own, then prints whether that imported Paddle.
REFUSE = """
import sys
from runner.cli.compose import config_of
from runner.launch.missing import refuse_missing
try:
    refuse_missing(config_of(sys.argv[1:]))
except Exception as error:
    print(type(error).__name__, error)
print("paddle" in sys.modules)
"""


@pytest.mark.skipif(not device.is_cpu_build(), reason="needs Paddle's CPU build")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launch.devices=[7]"], "ConfigError launch.devices=[7] are GPUs, and this run has none"),
        (["train.device=gpu"], "ConfigError train.device=gpu: this Paddle sees no GPU"),
        (["amp=fp16"], "ConfigError amp=fp16: Paddle's CPU build has no mixed precision"),
        (
            ["model=vgg11", "model.weights=imagenet"],
            "CheckpointError No published ImageNet weights are known for vgg11",
        ),
    ],
)
def test_what_a_run_lacks_is_refused_without_importing_paddle(words, message):
    done = subprocess.run([sys.executable, "-c", REFUSE, *words], capture_output=True, text=True, env=ENVIRONMENT)
    refusal, imported = done.stdout.rsplit("\n", 2)[:2]
    assert refusal.startswith(message), done.stderr
    assert imported == "False"
