"""Paths, the plane that holds them, and the animation that walks them again."""

import pytest
import torch

from experiments.trajectory import measure as trajectory
from experiments.trajectory.animation import animate


def nothing(share, detail):
    pass


def test_paths_and_map_of_the_quadratic():
    plane = trajectory.measure("quadratic", trajectory.Extent(2, 32, 50, 15, 0), nothing)
    assert {variant: path.updates for variant, path in plane.paths.items()} == {
        "batch": 2,
        "stochastic": 884,
        "mini-batch": 28,
    }
    assert sum(plane.held) == pytest.approx(1)
    for path in plane.paths.values():
        # The coordinates are the parameters themselves.
        assert (path.across[0], path.along[0]) == (2.2, -0.4)
        assert path.examples[-1] == 884
        assert plane.across[0] < min(path.across) <= max(path.across) < plane.across[-1]
        assert path.costs[-1] < path.costs[0]
    assert min(map(min, plane.costs)) <= min(path.costs[-1] for path in plane.paths.values()) * 1.05


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
