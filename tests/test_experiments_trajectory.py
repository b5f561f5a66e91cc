"""Paths, the plane that holds them, and the animation that walks them again."""

import pytest
import torch

from experiments.configuration import build
from experiments.run import Run, RunError
from experiments.theory.problem import Problem
from experiments.trajectory import measure as trajectory
from experiments.trajectory.animation import animate
from experiments.trajectory.options import Options


def nothing(share, detail):
    pass


def mapped(name, out, **given):
    options = build(Options, {"epochs": 2, "points": 50, "grid": 15, **given})
    run = Run.create("trajectory", str(out), options)
    return trajectory.measure(run, Problem.of(options, name), nothing)


def test_paths_and_map_of_the_quadratic(tmp_path):
    plane = mapped("quadratic", tmp_path)
    assert {variant: path.updates for variant, path in plane.paths.items()} == {
        "batch": 2,
        "stochastic": 2 * plane.rows,
        "mini-batch": 2 * -(-plane.rows // 32),
    }
    assert sum(plane.held) == pytest.approx(1)
    assert plane.labels[0] == "slope along total serum cholesterol"
    # The coordinates are the parameters themselves, the start as far out as was asked for.
    start = Problem.of(Options(), "quadratic").learner().network.state_dict()["1.weight"][0]
    for path in plane.paths.values():
        assert (path.across[0], path.along[0]) == pytest.approx((4 * start).tolist())
        assert path.examples[-1] == 2 * plane.rows
        assert plane.across[0] < min(path.across) <= max(path.across) < plane.across[-1]
        assert path.costs[-1] < path.costs[0]
    assert min(map(min, plane.costs)) <= min(path.costs[-1] for path in plane.paths.values()) * 1.05


def test_a_model_of_choice_is_cut_along_its_principal_directions(tmp_path):
    plane = mapped("chosen", tmp_path, **{"data.name": "iris"}, batch_size=8)
    assert plane.problem == "perceptron on iris"
    assert plane.parameters == 16 * 8 + 3
    assert 0.5 < sum(plane.held) <= 1
    # The paths begin at one point, and the map's costs there are those of the start's projection.
    assert len({(path.across[0], path.along[0]) for path in plane.paths.values()}) == 1


def test_what_diverges_is_said(tmp_path):
    with pytest.raises(RunError, match="--lr: batch=1e\\+30 of the bound diverges on quadratic"):
        mapped("quadratic", tmp_path, lr={"batch": 1e30})


def test_the_plane_of_a_network_holds_its_paths():
    line = torch.arange(5.0)[:, None] * torch.tensor([3.0, 4.0, 0.0, 0.0])
    origin, directions, held = trajectory.plane(line + 7)
    assert held[0] == pytest.approx(1)
    torch.testing.assert_close(directions[0].abs(), torch.tensor([0.6, 0.8, 0.0, 0.0]))
    torch.testing.assert_close(origin, line[2] + 7)


def test_animation_moves_through_every_vertex_in_its_time():
    path = '<g id="walk-0">\n<path d="M 0 0 \nL 3 4 \nL 3 14 \n" style="x"/>\n</g>'
    svg = f'<svg viewBox="0 0 100 50">{path}</svg>'
    moving = animate(svg, "map", {0: [0, 0.25, 1]})
    assert 'values="1;0.66667;0" keyTimes="0;0.25;1"' in moving
    assert 'keyPoints="0;0.33333;1" calcMode="linear" keyTimes="0;0.25;1"' in moving
    assert moving.count('begin="0s;again-map.click"') == 2
    with pytest.raises(ValueError, match="of which 2 have a time"):
        animate(svg, "map", {0: [0, 1]})
    with pytest.raises(ValueError, match="walk-1"):
        animate(svg, "map", {1: [0, 1]})
