"""What the experiments on the theory of gradient descent share: costs over real data, and their curvature."""
