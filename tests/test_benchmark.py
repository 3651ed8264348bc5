"""The benchmark compares like with like; no test looks at its clock."""

import json

import pytest
import torch

from wavediff.bench.machine import Timing, alternate, count_launches, launches, operations, peak_memory
from wavediff.bench.side_by_side import Comparison, _hifigan, _vocos, ratios
from wavediff.cli.main import main
from wavediff.engine import precision

pytestmark = pytest.mark.slow


def test_contenders_take_turns_after_a_warm_up() -> None:
    turns: list[str] = []
    contenders = {name: lambda name=name: turns.append(name) for name in ("a", "b")}
    timings = alternate(contenders, 3, 2.0, torch.device("cpu"))
    assert turns == ["a", "b"] * 4
    assert [len(timing.seconds) for timing in timings] == [3, 3]


def test_medians_spread_and_ratios_are_those_of_the_times() -> None:
    slow, fast = Timing("slow", (3.0, 1.0, 8.0), 2.0), Timing("fast", (1.0, 0.5, 4.0), 2.0)
    row = slow.to_dict()
    assert (row["median_seconds"], row["fastest_seconds"], row["slowest_seconds"], row["rtf"]) == (3.0, 1.0, 8.0, 1.5)
    assert ratios([slow, fast], "slow") == {"fast": 3.0}


@pytest.mark.parametrize("bfloat16_time", [0.5, 75.0])
def test_bench_runs_both_on_the_same_weights(
    bfloat16_time: float, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffwave", reason="the reference implementation is absent: pip install --no-deps diffwave")
    monkeypatch.setattr(precision, "bfloat16_time", lambda: bfloat16_time)
    comparison = Comparison("cpu", channels=8, layers=3)
    ours = dict(comparison.vocoder.denoiser.named_parameters())["backbone.skip_projection.weight"]
    assert torch.equal(ours, comparison.reference.skip_projection.weight)
    size = ["--seconds=0.1", "--batch-size=1", "--repeats=1", "--channels=8", "--layers=3", "--device=cpu"]
    if bfloat16_time < 1:
        assert main(["bench", *size, "--quiet", "--json"]) == 0
        results = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in results["vocoding"]] == ["wavediff", "wavediff bf16", "diffwave"]
        assert [row["name"] for row in results["training"]] == ["wavediff bf16", "wavediff", "diffwave"]
        assert results["vocoding_speedup"]["wavediff"] > 0
    else:  # a processor without bfloat16: nobody waits for it
        assert main(["bench", *size]) == 0
        captured = capsys.readouterr()
        assert captured.out.splitlines()[0].endswith(f"({torch.backends.cpu.get_cpu_capability()})")
        assert "times as fast as diffwave" in captured.out
        assert "bf16 left out" in captured.out
        assert "wavediff bf16" not in captured.out


def test_the_peak_of_a_call_is_what_it_allocates() -> None:
    peak = peak_memory(lambda: torch.ones(50_000_000), torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert 190e6 < peak < 260e6


def test_operations_of_a_product_are_two_a_pair() -> None:
    assert operations(lambda: torch.ones(3, 5) @ torch.ones(5, 7)) == 2 * 3 * 5 * 7


def test_bench_by_itself_tells_growth_latency_and_roofline(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = ["--against=itself", "--lengths", "0.5", "1", "--batches", "2", "--repeats=1", "--device=cpu", "--quiet"]
    assert main(["bench", *size, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [row["audio_seconds"] for row in results["growth"]] == [0.5, 1.0]
    assert [row["batch"] for row in results["batches"]] == [2]
    assert 0 < results["roofline"]["share_of_gemm_rate_whole"] < results["roofline"]["share_of_gemm_rate_network"]
    assert results["latency"]["gathered"]["late_milliseconds"] > results["latency"]["low latency"]["late_milliseconds"]
    assert [row["streams"] for row in results["streams"]] == [2]
    monkeypatch.setattr("wavediff.bench.scaling.measure", lambda *_: results)  # once is enough
    assert main(["bench", *size]) == 0
    out = capsys.readouterr().out
    assert "besides the speech" in out
    assert "2 streams at once: " in out
    assert main(["bench", "--against=itself", "--batches", "0"]) == 2


def test_bench_says_how_to_get_the_reference(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffwave", None)
    assert main(["bench", "--quiet"]) == 2  # fault 84
    assert "pip install --no-deps diffwave" in capsys.readouterr().err


def test_bench_puts_a_vocoder_beside_generators_of_the_published_sizes(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("vocos", reason="a generator to compare with is absent: pip install vocos")
    pytest.importorskip("transformers", reason="a generator to compare with is absent: pip install transformers")
    for build, millions in ((_vocos, 13.5), (_hifigan, 13.9)):  # as published, both without the discriminators
        generator = build(80, 256)
        assert sum(p.numel() for p in generator.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
        with torch.inference_mode():
            speech = generator.eval()(torch.zeros(1, 80, 10))
        assert abs(speech.shape[-1] - 10 * 256) <= 256
    size = ["--against=gans", "--seconds=0.2", "--repeats=1", "--device=cpu", "--quiet"]
    assert main(["bench", *size, "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)["vocoding"]]
    assert names == [*(f"wavediff, {count} steps" for count in (1, 2, 4, 6)), "vocos", "hifigan-v1"]


def test_launches_are_counted_by_the_names_of_the_drivers_calls() -> None:
    names = ["cudaLaunchKernel", "aten::add", "cuLaunchKernelEx", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaFree"]
    assert count_launches(names) == 4
    assert launches(lambda: torch.ones(3), torch.device("cpu")) is None
