"""The table of methods of quantization, in its short form."""

from __future__ import annotations

import pytest

from benchmarks import compression

TINY = ["+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "deploy.bench_s=0.01"]


def test_a_method_that_there_is_not_is_refused_with_those_that_there_are(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compression", "--also", "lsq,dorefa"])
    with pytest.raises(SystemExit):
        compression.main()
    said = capsys.readouterr().err
    assert "--also dorefa: unknown" in said
    assert "adaround_w4" in said


@pytest.mark.slow
def test_the_short_form_measures_what_it_is_asked_for_alone(tmp_path, monkeypatch, capsys):
    words = ["--quick", "--also", "ptq_mse_w4,lsq_w4", "--keep", str(tmp_path), *TINY]
    monkeypatch.setattr("sys.argv", ["compression", *words])
    compression.main()
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {"dense", "ptq_mse_w4", "lsq_w4"} <= set(rows)
    assert "qat" not in rows
    assert rows["lsq_w4"].split()[-3] == "4.0"
