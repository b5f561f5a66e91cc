"""Right numbers, broken promises: what a Function owes to the engine and to its caller."""

from typing import Any

import torch
from torch import Tensor

from .plant import HandWritten, Plant, Square


class Product(HandWritten):
    """y = x w, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return x * w

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, w = inputs
        ctx.shapes = x.shape, w.shape
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w if ctx.needs_input_grad[0] else None)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        grad_x = (g * w.conj()).sum_to_size(ctx.shapes[0]) if ctx.needs_input_grad[0] else None
        grad_w = (g * x.conj()).sum_to_size(ctx.shapes[1]) if ctx.needs_input_grad[1] else None
        return grad_x, grad_w


class RealProduct(Product):
    """Forgets that a factor is conjugated."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        grad_x = (g * w).sum_to_size(ctx.shapes[0]) if ctx.needs_input_grad[0] else None
        grad_w = (g * x).sum_to_size(ctx.shapes[1]) if ctx.needs_input_grad[1] else None
        return grad_x, grad_w


class Wasteful(Product):
    """Computes both gradients, whoever needs them."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        return (g * w.conj()).sum_to_size(x.shape), (g * x.conj()).sum_to_size(w.shape)


class AsksSavedTensor(Product):
    """Gives no gradient at all where the saved x requires none."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.shapes = tuple(tensor.shape for tensor in inputs)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, _ = ctx.saved_tensors
        return Product.backward(ctx, g) if x.requires_grad else (None, None)


class NeedsBoth(Product):
    """Saves what the needed gradients need, and multiplies what it did not save."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        return (g * w.conj()).sum_to_size(ctx.shapes[0]), (g * x.conj()).sum_to_size(ctx.shapes[1])


class SlopeOnContext(Square):
    """Keeps 2 x as an attribute."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.slope = 2 * inputs[0].conj()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.slope


class InputOnContext(Square):
    """Keeps x as an attribute, so that nobody notices when it is changed."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.x = inputs[0]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * ctx.x.conj() * g


class SavesData(Square):
    """Saves ``x.data``, which has a version counter of its own."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0].data)


class Exponential(HandWritten):
    """y = exp x from its saved output, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return g * y.conj()


class OutputOnContext(Exponential):
    """Keeps y as an attribute: y holds its node, the node holds y."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.y = output

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.y.conj()


class GraphInBackward(Square):
    """Differentiates a copy of x in backward, whose gradient then holds its own graph."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            (x.grad,) = torch.autograd.grad(x * x, x, g, create_graph=True)
        return x.grad


class OverwritesSaved(Exponential):
    """Computes the gradient in the memory of its saved output."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return y.mul_(g)


class OverwritesSavedData(Exponential):
    """The same, behind the version counter's back."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return y.data.mul_(g)


class OverwritesCotangent(Square):
    """Computes the gradient in the memory of the cotangent."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g.mul_(2 * x.conj())


class Double(HandWritten):
    """y = 2 x, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * g


class OverwritesInput(Double):
    """Doubles x in place and does not say so."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.mul_(2).clone()


class ReturnsView(HandWritten):
    """A reshape that returns a view of its input; the built-in that it replaces copies."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g.clone()


class ReturnsCopy(ReturnsView):
    """The same, with a copy."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()


class PassesOn(ReturnsCopy):
    """Returns the memory of the cotangent, which becomes that of the gradient."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g.view_as(g)


class MaskedRelu(HandWritten):
    """relu that also returns where it was open, as a number; as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.clamp(min=0), (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, g: Any, _: Any) -> Any:
        (mask,) = ctx.saved_tensors
        return g * mask


class UnmarkedMask(MaskedRelu):
    """Forgets to say that the mask has no derivative."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(output[1])


PLANTS = (
    Plant(
        "product without the conjugate",
        "missing-conjugate",
        RealProduct,
        Product,
        ((4, 3), (4, 3)),
        dtype=torch.complex128,
    ),
    Plant("both gradients, needed or not", "wasted-work", Wasteful, Product, ((4, 3), (4, 3))),
    Plant("no gradient unless x needs one", "frozen-input", AsksSavedTensor, Product, ((4, 3), (4, 3))),
    Plant("saves for one, computes both", "frozen-input", NeedsBoth, Product, ((4, 3), (4, 3))),
    Plant("slope kept on ctx", "tensor-on-ctx", SlopeOnContext, Square, ((4, 3),)),
    Plant("input kept on ctx", "unguarded-save", InputOnContext, Square, ((4, 3),)),
    Plant("data of the input saved", "unguarded-save", SavesData, Square, ((4, 3),)),
    Plant("output kept on ctx", "leak", OutputOnContext, Exponential, ((4, 3),)),
    Plant("graph made in backward and kept", "leak", GraphInBackward, Square, ((4, 3),)),
    Plant(
        "gradient in the saved output", "saved-tensor-overwritten", OverwritesSaved, Exponential, ((4, 3),)
    ),
    Plant("gradient in its data", "saved-tensor-overwritten", OverwritesSavedData, Exponential, ((4, 3),)),
    Plant("gradient in the cotangent", "cotangent-mutated", OverwritesCotangent, Square, ((4, 3),)),
    Plant("input doubled in place", "input-mutated", OverwritesInput, Double, ((4, 3),)),
    Plant(
        "output is the input's view", "output-aliases-input", ReturnsView, ReturnsCopy, ((4, 3),), torch.clone
    ),
    Plant("cotangent passed on", "gradient-aliases", PassesOn, ReturnsCopy, ((4, 3),), torch.clone),
    Plant("mask with a gradient", "unmarked-output", UnmarkedMask, MaskedRelu, ((4, 3),)),
)
