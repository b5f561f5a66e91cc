"""The verifier: holds a backward pass against autograd, and names every fault."""
