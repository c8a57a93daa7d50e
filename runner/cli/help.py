"""What `--help` prints."""

from __future__ import annotations

import textwrap

import yaml

from .config_dir import choices, config_dir

USAGE = """\
Train, distil, compress, compare and export image classifiers on PaddlePaddle.

  runner [GROUP=CHOICE …] [KEY=VALUE …]      train one run (`python -m runner` is the same)
  runner -m KEY=VALUE,VALUE …                train one run for each combination
  runner VERB …                              work with existing runs

Examples
  runner                                              digits, MobileNetV3, on any machine
  runner mode=cls_distill optimizer=momentum optimizer.lr=0.05
  runner data=image_folder data.root=DIR model=resnet18
  runner mode=cls_distill model@mode.peer=resnet18    a second network of another kind
  runner experiment=compress/qat checkpoint.init_from=RUN      quantize a trained network
  runner +debug=fast_dev_run …                        two steps, to see whether it all fits

Verbs (`runner VERB --help` says more; RUN is a run directory DIR or an MLflow run id)
  eval RUN            evaluate a run's networks again
  export RUN          write a network as ONNX, Paddle or safetensors files, compared with the trained one
  bench RUN…          latency, throughput and size of exported networks, side by side
  predict RUN IMAGES  classify files, folders, globs, with the trained network or an exported file: a table, CSV, JSON
  serve EXPORT        serve an exported network's predictions over HTTP, without Paddle
  explain RUN         Grad-CAM maps of images, and the effect of compression on each layer
  data [OVERRIDES]    check the images of a set and show them: counts, broken files, duplicates, augmentation
  models [PATTERN]    the networks that model=NAME takes, with parameters, MACs and, measured here, latency
  lr [OVERRIDES]      train some steps while the learning rate rises, and suggest one
  runs [FOLDER]       list runs with status, mode, compression and accuracy
  report RUN…|SWEEP   compare runs in one page: the best and why, costs, curves, mistakes; and in Markdown
  config [OVERRIDES]  the config that they compose, as a tree, with what differs from the defaults marked
  ui [URI]            open MLflow on the runs of this folder
  sync DIR…           send trackers, such as MLflow, what they are missing
  migrate DIR…        bring stored runs of earlier versions to this one; --dry-run says what it would do
  kernels             which convolutions the CPU's compiled kernels compute, and how much faster
  doctor              what is installed, which device is used, what to fix
  completion          print what makes bash or zsh complete groups, choices and keys

Groups and their choices (* is the default)
"""

MORE = """\

Every key of the composed config can be set: `runner --cfg job` prints them, `runner --hydra-help` Hydra's own options.
`runner hydra.run.dir=DIR` chooses the run's folder; with checkpoint.resume=auto the run in it is resumed.

Exit codes: 0 done · 2 bad config · 3 bad data or checkpoint, full disk · 4 diverged · 5 a process or server was lost ·
129 SIGHUP · 130 Ctrl-C · 143 SIGTERM · 1 a defect
"""

#: Groups that are not in the defaults list: a `+` adds them.
ADDED = ("debug", "sweep/optuna")


def defaults() -> dict[str, str]:
    """Config group → its default choice."""
    listed = yaml.safe_load((config_dir() / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return {group: choice for entry in listed if isinstance(entry, dict) for group, choice in entry.items() if choice}


def text(width: int = 110) -> str:
    """The whole page."""
    taken = defaults()
    lines = [USAGE.rstrip("\n")]
    for group, names in choices().items():
        marked = [f"{name}*" if taken.get(group) == name else name for name in names]
        prefix = f"  {'+' if group in ADDED else ''}{group}".ljust(16)
        lines += textwrap.wrap(", ".join(marked), width, initial_indent=prefix, subsequent_indent=" " * 16)
    return "\n".join(lines) + "\n" + MORE
