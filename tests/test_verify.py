"""The verifier's interface: what a report says, and in which forms."""

import json
import os
import time
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from tests.zoo.plant import rule
from torch_backprop.verify import Finding, Report, assert_correct, check
from torch_backprop.verify.faults import FAULTS
from torch_backprop.verify.probe import PROBES


class Halved(Function):
    """x^2, whose gradient lacks its factor 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.saved_tensors[0].conj() * grads[0]


class Deadly(Halved):
    """Kills the interpreter where there is nothing to differentiate."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        if not x.numel():
            os._exit(3)
        return 2 * x.conj() * grads[0]


class OnlyOnce(Halved):
    """Refuses all calls but the first."""

    calls: list[torch.Size] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        OnlyOnce.calls.append(x.shape)
        if len(OnlyOnce.calls) > 1:
            raise RuntimeError("no workspace is left")
        return Halved.forward(ctx, x)


class Endless(Halved):
    """Sleeps longer than anybody waits."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        time.sleep(60)
        return grads[0]


def sample() -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def report() -> Report:
    return check(Halved, sample(), reference=torch.square, compile=False)


def test_correct_function_is_ok():
    found = check(torch.tanh, sample(), reference=torch.tanh, compile=False)
    assert found.ok
    assert found.findings == ()


def test_finding_names_fault_numbers_and_sample(report: Report):
    (fault,) = [finding for finding in report.findings if finding.verdict == "wrong"]
    assert not report.ok
    assert fault.fault == "constant-factor"
    assert "0.5 times the truth" in fault.diagnosis
    assert "1x1" in fault.sample
    assert fault.seen != fault.expected


@pytest.mark.parametrize(
    ("slope", "words"),
    [
        (lambda g, x: 2 * x * g / x.numel(), "1/12 (numel 12) times the truth"),
        (lambda g, x: 2 * x * g * x.shape[0], "4 (batch size 4 of axis 0) times the truth"),
        (lambda g, x: torch.where((x < 0).all(), g, 2 * x * g), "wrong on the sample negative input0"),
        (lambda g, x: torch.where(x.abs() > 99, g, 2 * x * g), "wrong on the sample +800 input0"),
    ],
)
def test_diagnosis_says_which_size_and_which_sample(slope: Any, words: str):
    found = check(rule(torch.square, slope), sample(), isolate=False, quick=True)
    assert words in "; ".join(finding.diagnosis for finding in found.findings)


def test_diagnosis_says_where_gradients_are_in_another_order():
    found = check(
        rule(lambda a, b: a * b.sin(), lambda g, a, b: g * a * b.cos(), lambda g, a, b: g * b.sin()),
        sample(),
        sample() + 1,
        isolate=False,
        quick=True,
    )
    assert "it is that of input1: gradients are returned in another order" in found.findings[0].diagnosis


def test_single_precision_of_what_it_holds_exactly_is_told_by_another_size():
    found = check(
        rule(torch.negative, lambda g, x: -g.float().to(g.dtype)), sample(), isolate=False, quick=True
    )
    assert [finding.fault for finding in found.findings if finding.probe == "sizes"] == ["float32-inside"]


def test_capabilities_are_no_faults(report: Report):
    capabilities = [finding.fault for finding in report.findings if finding.verdict == "capability"]
    assert "no-forward-mode" not in capabilities  # sought only where the gradient is right
    assert all(finding.verdict == FAULTS[finding.fault].verdict for finding in report.findings)


def test_text_is_a_table(report: Report):
    first, _, head, *rest = str(report).splitlines()
    assert first.startswith("Halved: not ok, 1 wrong, ")
    assert head.split() == ["verdict", "fault", "seen", "expected", "diagnosis"]
    assert any(line.startswith("wrong") and "constant-factor" in line for line in rest)


@pytest.mark.parametrize("count", [0, 1, 12])
def test_table_is_aligned_and_fits_a_hundred_columns(count: int):
    words = "gradient of input0 is 0.5 times the truth, on every element of it"
    verdicts = ["capability", "precision", "contract", "crash", "wrong"]
    findings = tuple(
        Finding(f"fault-{i}", verdicts[i % 5], "numbers", "[1.5]" * i, "[3.0]", words, "as given: 4x3", "")
        for i in range(count)
    )
    first, *lines = str(Report("f", findings, ("a note " * 40,), 0.5)).splitlines()
    assert first.startswith("f: not ok, 2 wrong, 2 crash" if count == 12 else "f: ok")
    assert max(map(len, lines)) <= 100
    names = [line.split()[0] for line in lines if line and "fault-" in line]
    assert names == sorted(names, key=verdicts[::-1].index)
    assert len(names) == count
    assert len({line.index("fault-") for line in lines if "fault-" in line}) <= 1


def test_markdown_has_a_row_and_a_snippet_for_each_finding(report: Report):
    text = report.to_markdown()
    assert text.count("```python") == len(report.findings)
    assert "| wrong | constant-factor | numbers |" in text


def test_json_is_read_back(report: Report):
    found = json.loads(report.to_json())
    assert found["ok"] is False
    assert found["findings"][0]["fault"] == "constant-factor"


def test_html_stands_alone(report: Report):
    text = report.to_html()
    assert text.startswith("<!doctype html>")
    assert "constant-factor" in text
    assert "http" not in text


def test_snippet_runs_by_itself(report: Report, capfd: pytest.CaptureFixture[str]):
    exec(report.findings[0].snippet, {})
    assert "constant-factor" in capfd.readouterr().out


def test_without_reference_the_forward_is_not_judged():
    found = check(Halved, sample(), quick=True)
    assert [finding.fault for finding in found.findings if finding.verdict == "wrong"] == ["constant-factor"]
    assert any("forward pass is the truth" in note for note in found.notes)


class Numpy(Halved):
    """The same, in a forward pass that autograd cannot see through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 2)


def test_forward_that_autograd_cannot_see_through():
    found = check(Numpy, sample(), quick=True)
    assert "constant-factor" in [finding.fault for finding in found.findings]


def test_function_and_its_apply_are_the_same_candidate():
    names = [check(candidate, sample(), quick=True).candidate for candidate in (Halved, Halved.apply)]
    assert names == ["Halved", "Halved"]


def test_module_is_held_with_its_parameters():
    class Wrong(torch.nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return torch.nn.functional.linear(input, self.weight, self.bias.detach())

    found = check(Wrong(3, 2), sample(), reference=torch.nn.Linear(3, 2), quick=True)
    assert [finding.fault for finding in found.findings] == ["missing-gradient"]
    assert "bias" in found.findings[0].diagnosis


def test_frozen_inputs_are_not_differentiated():
    x, factor = sample().requires_grad_(), torch.ones(3)

    def scaled(x: Tensor, factor: Tensor) -> Tensor:
        return x * factor.detach()

    assert check(scaled, x, factor, reference=torch.mul, quick=True).ok


def test_candidate_that_kills_its_process_is_a_finding():
    found = check(Deadly, sample(), compile=False)
    assert "kills-process" in [finding.fault for finding in found.findings]
    assert len(found.findings) > 1


def test_candidate_that_refuses_a_second_call_is_a_finding():
    found = check(OnlyOnce, sample(), quick=True)
    assert [finding.fault for finding in found.findings] == ["forward-crash"]
    assert any("nothing was judged" in note for note in found.notes)


def test_differences_by_a_part_of_a_large_input_are_said_to_be_of_a_part():
    found = check(Numpy, torch.randn(20, 20), quick=True)
    assert "constant-factor" in [finding.fault for finding in found.findings]
    assert any("by 200 elements of input0 (400)" in note for note in found.notes)


def test_candidate_that_hangs_is_ended():
    found = check(Endless, sample(), limit=2.0, quick=True)
    assert [finding.fault for finding in found.findings] == ["hangs"]


def test_in_process_and_in_a_process_of_its_own_find_the_same():
    found = [check(Halved, sample(), quick=True, isolate=isolate).findings for isolate in (True, False)]
    assert found[0] == found[1]


def test_wide_sample_is_made_no_larger():
    assert check(torch.tanh, torch.randn(1, 80_000), probes="large", isolate=False).ok


def test_assert_correct_raises_with_the_report():
    with pytest.raises(AssertionError, match="constant-factor"):
        assert_correct(Halved, sample(), quick=True)
    assert_correct(torch.tanh, sample(), reference=torch.tanh, quick=True)


def test_random_numbers_and_settings_are_left_alone():
    before = torch.get_rng_state()
    check(torch.nn.Dropout(), sample(), reference=torch.nn.Dropout(), isolate=False, compile=False)
    assert torch.equal(before, torch.get_rng_state())


def test_every_probe_says_what_it_looks_for():
    assert all(probe.look.__doc__ for probe in PROBES)
    assert len({probe.name for probe in PROBES}) == len(PROBES)
