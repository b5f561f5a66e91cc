"""What makes equality impossible is warned of once; what does not, never."""

from contextlib import nullcontext

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.nn.functional import cross_entropy, dropout, mse_loss, normalize

import torch_backprop.nn
from tests.sequential_sgd import GROUP_SIZES, LR, batches, descend, make_data, make_model, make_optimizer
from torch_backprop.optim import MiniBatchGD

each_form = pytest.mark.parametrize("form", ["cost", "closure"])


def run(optimizer, cost, form="cost", size=29, epochs=2) -> None:
    for _ in range(epochs):
        for batch in optimizer.epoch(batches(size)):

            def closure(batch=batch):
                loss = cost(*optimizer.take(*batch))
                loss.backward()
                return loss

            optimizer.step(closure) if form == "closure" else optimizer.step(cost, *batch)


LAYERS = {
    "BatchNorm1d": nn.BatchNorm1d(5),
    "Dropout": nn.Dropout(0.5),
    "AlphaDropout": nn.AlphaDropout(0.1),
    "RReLU": nn.RReLU(),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(),
}


@each_form
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_that_couple_rows_or_draw(layer, form):
    model = nn.Sequential(LAYERS[layer], make_model()).double().train()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    with pytest.warns(UserWarning, match=f"{layer} in training mode") as caught:
        run(optimizer, lambda x, y: cross_entropy(model(x), y), form)
    assert len(caught) == 1
    model.eval()
    run(MiniBatchGD(model.parameters(), LR, 8), lambda x, y: cross_entropy(model(x), y), form)


def test_our_own_dropout():
    model = nn.Sequential(torch_backprop.nn.Dropout(0.5), make_model())
    with pytest.warns(UserWarning, match="Dropout in training mode"):
        run(make_optimizer("batch", model.parameters()), lambda x, y: cross_entropy(model(x), y))


@each_form
def test_dropout_that_is_no_layer(form):
    model = make_model()
    with pytest.warns(UserWarning, match="draws random numbers") as caught:
        run(
            make_optimizer("minibatch", model.parameters()),
            lambda x, y: cross_entropy(model(dropout(x)), y),
            form,
        )
    assert len(caught) == 1


def contrastive(z, y):
    z = normalize(z)
    return cross_entropy(z @ z.T, torch.arange(len(z)))


COUPLED = {
    "contrastive": contrastive,
    "mean of outputs": lambda z, y: (z.mean(0) - 1).square().sum(),
    "standardized": lambda z, y: cross_entropy((z - z.mean(0)) / (z.std(0, correction=0) + 1e-3), y),
    "distances": lambda z, y: (z[:, None] - z).square().sum(2).add(1).sqrt().mean(),
}


@each_form
@pytest.mark.parametrize("variant", ["batch", "minibatch"])
@pytest.mark.parametrize("name", COUPLED)
def test_costs_that_couple_examples(name, variant, form):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters())
    with pytest.warns(UserWarning, match="cost couples the examples") as caught:
        run(optimizer, lambda x, y: COUPLED[name](model(x), y), form)
    assert len(caught) == 1


def in_place(model, x, y):
    x -= 1.0
    return cross_entropy(model(x), y)


DECOUPLED = {
    "cross entropy": lambda model, x, y: cross_entropy(model(x), y),
    "squared error": lambda model, x, y: mse_loss(model(x)[:, 0], x.sum(1)),
    "linear in the rows": lambda model, x, y: model[0](x).mean(),
    "rows changed in place": in_place,
    "rows as numpy": lambda model, x, y: model(torch.from_numpy(x.numpy())).square().mean(),
    "relu": lambda model, x, y: torch.relu(model(x)).mean(),
    "layer norm": lambda model, x, y: cross_entropy(nn.functional.layer_norm(model(x), (3,)), y),
}


@each_form
@pytest.mark.parametrize("variant", GROUP_SIZES)
@pytest.mark.parametrize("name", DECOUPLED)
def test_no_false_alarm(name, variant, form):
    model = make_model()
    optimizer = make_optimizer(variant, model.parameters())
    run(optimizer, lambda x, y: DECOUPLED[name](model, x, y), form)


@pytest.mark.filterwarnings("error")
def test_a_warning_as_an_error_is_raised_and_nothing_changes():
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    with pytest.raises(UserWarning, match="couples the examples"):
        run(optimizer, lambda x, y: contrastive(model(x), y))
    assert optimizer.updates == 0
    run(optimizer, lambda x, y: contrastive(model(x), y))


def test_weights_in_the_denominator_are_no_coupling():
    model = make_model()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    x, y = make_data()
    weight = torch.rand(67).double()

    def cost(x, y, w):
        return (w * cross_entropy(model(x), y, reduction="none")).sum() / w.sum()

    optimizer.step(cost, x, y, weight, weight=weight)


def test_rows_of_whole_numbers():
    model = nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), make_model()).double()
    optimizer = MiniBatchGD(model.parameters(), LR, 8)
    for tokens in optimizer.epoch(torch.randint(9, (30, 1)).split(11)):
        optimizer.step(lambda tokens: model(tokens).square().mean(), tokens)


def test_an_operator_without_a_second_derivative_is_no_obstacle():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
            return grad * 2

    model = make_model()
    run(MiniBatchGD(model.parameters(), LR, 8), lambda x, y: cross_entropy(Once.apply(model(x)), y))


def test_looking_changes_no_bit():
    ends = []
    for unseen in (True, False):
        model = make_model()
        optimizer = MiniBatchGD(model.parameters(), LR, 8)
        if not unseen:
            optimizer._unseen.clear()
        # Views of rows that start anywhere, whose products round as their alignment has it.
        descend(optimizer, model, 5, "closure")
        ends.append(torch.nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*ends)


@each_form
@pytest.mark.parametrize("layer", [nn.Identity, nn.Dropout])
def test_a_compiled_model_is_compiled_once(layer, form):
    torch._dynamo.reset()
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    model = nn.Sequential(nn.Linear(5, 3), layer()).double()
    optimizer = MiniBatchGD(model.parameters(), LR, 8, last="drop")
    fast = torch.compile(model, backend=backend, fullgraph=True)
    x, y = (rows[:64] for rows in make_data())
    warned = pytest.warns(UserWarning, match="Dropout in training mode")

    def closure():
        rows, classes = optimizer.take(x, y)
        cost = cross_entropy(fast(rows), classes)
        cost.backward()
        return cost

    with warned if layer is nn.Dropout else nullcontext():
        if form == "closure":
            optimizer.step(closure)
        else:
            optimizer.step(lambda x, y: cross_entropy(fast(x), y), x, y)
    assert len(compiled) == 1
