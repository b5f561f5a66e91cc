"""Trains from a file that holds a whole training step, with torch alone: no autograd, no other package.

    python -I device.py STEP.pt2 START.pt END.pt EPOCHS

START.pt holds parameters, state, and the batches; END.pt gets the parameters that came of them. The learning
rate is a part of the state, and falls from epoch to epoch.
"""

import sys

import torch

DECAY = 0.8


def train(step_file: str, start_file: str, end_file: str, epochs: int) -> None:
    """Runs the step over all batches, and prints the mean cost of each epoch."""
    step = torch.export.load(step_file).module()
    parameters, state, batches = torch.load(start_file)
    for _ in range(epochs):
        total = 0.0
        for inputs, targets in batches:
            cost, parameters, state = step(parameters, state, inputs, targets)
            total += cost.item()
        print(total / len(batches), flush=True)
        for rate in state["lr"].values():
            rate.mul_(DECAY)
    torch.save(parameters, end_file)


if __name__ == "__main__":
    # a device does not have it: an import would raise
    sys.modules["torch_backprop"] = None  # pyright: ignore[reportArgumentType]
    with torch.inference_mode():
        files, passes = sys.argv[1:4], int(sys.argv[4])
        train(files[0], files[1], files[2], passes)
