"""The table of methods of compression."""

from __future__ import annotations

import json

import pytest

from benchmarks import compression, harness

TINY = ["+debug=fast_dev_run", "deploy.bench_s=0.01"]
QUANTIZED, PRUNED = ["ptq_mse_w4", "lsq_w4"], ["prune_bn_scale", "taylor_ranking", "taylor_gradual"]


def seed(**top1):
    """Results of a seed: test top-1 by method."""
    common = {"params": 1.0, "macs": 1.0}
    return {
        name: {"final": {"top1": value, **common}, "seconds": 1.0, "files": [], "weight_bits": None, "ms": None}
        for name, value in top1.items()
    }


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("of_set", [*compression.TASKS, "quick"])
@pytest.mark.parametrize("name", compression.METHODS)
def test_every_method_is_a_config_that_compresses(name, of_set, config_of, tmp_path):
    method, its = compression.METHODS[name], compression.TASKS.get(of_set, compression.QUICK)
    begin = f"checkpoint.init_from='{tmp_path / 'a run'}'"
    config = config_of(*compression.compressed(name, its), begin, *its.shared)
    assert (config.compression.quantize is not None) == (method.kind in ("int8", "4-bit") or name.endswith("qat"))
    assert (config.compression.prune is not None) == ("half" in (method.kind or name) or "fpgm" in name)
    assert config.train.epochs == 0 or config.compression.kind != "ptq"


def test_a_method_that_there_is_not_is_refused_with_those_that_there_are(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compression", "--methods", "lsq,dorefa"])
    with pytest.raises(SystemExit):
        compression.main()
    said = capsys.readouterr().err
    assert "--methods dorefa: unknown" in said
    assert "adaround_w4" in said
    assert "half-macs" in said


def test_methods_of_a_kind_are_compared_and_bounds_are_checked(capsys):
    seeds = [
        seed(dense=0.9, lsq_w4=0.87 + shift, qat_w4=0.8 + shift, prune_fpgm=0.9)
        for shift in (0.0, 0.001, 0.002)
    ]  # fmt: skip
    assert compression.table(seeds) == 1
    said = capsys.readouterr().out
    rows = {
        line.split(" | ")[0].strip("| "): line.rstrip("| ").split(" | ") for line in said.splitlines() if "|" in line
    }
    assert rows["lsq_w4"][-1] == "best"
    assert rows["qat_w4"][-1] == "0.0700 (real)"
    assert rows["prune_fpgm"][-1].strip() != "best"
    assert "lsq_w4: 2.90 points lost (at most 1.0)" in said


def test_what_was_not_measured_is_out_of_bounds(capsys):
    assert compression.table([seed(dense=0.9, half_latency=0.9, qat=0.9)]) == 1
    said = capsys.readouterr().out
    assert "half_latency: 0 of 1 were timed" in said
    assert "qat: 0 of 1 exports were measured" in said
    assert "qat: 0 of 1 have integer files" in said


def test_the_latency_is_that_of_the_network_after_its_last_cut(capsys):
    measured = seed(dense=0.9, half_latency=0.9)
    measured["half_latency"]["ms"] = [10.0, 6.0]
    assert compression.table([measured]) == 1
    assert "half_latency: 0.60 of the latency" in capsys.readouterr().out


def test_an_interrupted_run_of_other_overrides_is_not_continued(tmp_path):
    (tmp_path / "overrides.yaml").write_text("[optimizer.lr=0.1, checkpoint.resume=auto]")
    with pytest.raises(SystemExit, match="has another run, which differs in optimizer.lr=0.1"):
        harness.train(tmp_path, [])


@pytest.mark.slow
def test_the_short_form_measures_what_it_is_asked_for_alone(tmp_path, monkeypatch, capsys):
    words = ["--quick", "--methods", ",".join([*QUANTIZED, *PRUNED]), "--keep", str(tmp_path), *TINY]
    monkeypatch.setattr("sys.argv", ["compression", *words])
    assert compression.main() in (0, 1)
    said = capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("|")]
    table = {cells[0]: dict(zip(lines[0], cells, strict=False)) for cells in lines[2:]}
    assert set(table) == {"dense", *QUANTIZED, *PRUNED}
    assert table["lsq_w4"]["bits"] == "4.0"
    final = {name: read(tmp_path / "quick" / "seed-0" / name / "result.json")["final"] for name in ("dense", *PRUNED)}
    assert all(final[name]["macs"] <= 0.5 * final["dense"]["macs"] for name in PRUNED)
    # A run that did not end goes on.
    (tmp_path / "quick" / "seed-0" / "dense" / "result.json").unlink()
    assert compression.main() in (0, 1)
    assert "resumed" in (tmp_path / "quick" / "seed-0" / "dense" / "train.log").read_text()
    # Only runs of the same command are taken for what was asked.
    monkeypatch.setattr("sys.argv", ["compression", *words, "optimizer.lr=0.1"])
    with pytest.raises(SystemExit, match="has another run, which differs in optimizer.lr=0.1"):
        compression.main()
