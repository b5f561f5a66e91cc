"""The progress bar of what takes long."""

import torch

from torch_backprop.optim import BatchGD, bar


def test_a_long_power_iteration_shows_a_bar(monkeypatch, capsys):
    theta = torch.ones(2, requires_grad=True)
    optimizer, rows = BatchGD([theta], 0.1), torch.ones(4, 2).split(2)

    def cost(z):
        # The largest eigenvalue in size is negative, so that a second iteration follows.
        return (theta**2 * z * torch.tensor([-1.0, 0.5])).sum(1).mean()

    monkeypatch.setattr(bar, "PERIOD", 0.0)
    for patience, terminal, quiet in ((0.0, False, False), (0.0, True, True), (60.0, True, False)):
        monkeypatch.setattr(bar, "PATIENCE", patience)
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        optimizer.largest_stable_lr(cost, rows, quiet=quiet)
        assert capsys.readouterr().err == ""
    monkeypatch.setattr(bar, "PATIENCE", 0.0)
    optimizer.largest_stable_lr(cost, rows, iterations=50)
    lines = capsys.readouterr().err.split("\r\x1b[K")
    assert lines[1] == f"[{'':<30}] product 1 of at most 50, batch 1"
    assert lines[4] == f"[{'':<30}] product 2 of at most 50, batch 2"
    assert lines[-1] == ""
