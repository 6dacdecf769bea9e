"""Training LeNet-5 step by step beside PyTorch, from the same weights and batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

import cnnc
from tests.torch_reference import Lenet5, take_over

LENET5 = Path(__file__).parent.parent / "models" / "lenet5.cnn"
STEPS, BATCH, LR, MOMENTUM, DECAY = 60, 16, 0.02, 0.9, 5e-4
PROGRAM = LENET5.read_text(encoding="utf-8").replace("momentum=0.9", f"momentum=0.9 weight_decay={DECAY}")


def batches(steps, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield rng.standard_normal((BATCH, 32, 32, 1)), rng.integers(0, 10, BATCH)


def torch_gradients(module, x, target):
    module.zero_grad()
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(target))
    loss.backward()
    return loss.item(), {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}


def test_sixty_steps_follow_torch_in_float64():
    net = cnnc.compile(PROGRAM, device="cpu", dtype="float64", training=True, seed=3)
    module = take_over(Lenet5().double(), net.state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    for step, (x, target) in enumerate(batches(STEPS)):
        want, _ = torch_gradients(module, x, target)
        optimizer.step()
        assert net.train_step(x, target) == pytest.approx(want, abs=1e-8), step
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value, module.state_dict()[name].numpy(), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("device", "steps"), [("cpu", STEPS), ("interpret", 3)])
def test_float32_gradients_at_the_references_weights(device, steps):
    """Each step starts from the float64 reference's weights, so that only this step's errors count."""
    net = cnnc.compile(PROGRAM, device=device, training=True, seed=3)
    module = take_over(Lenet5().double(), net.state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    for step, (x, target) in enumerate(batches(steps)):
        x = x.astype(np.float32).astype(np.float64)
        rounded = {name: value.numpy().astype(np.float32) for name, value in module.state_dict().items()}
        net.load_state_dict(rounded)
        loss, got = net.loss_and_grads(x, target)
        reference = take_over(Lenet5().double(), {name: value.astype(np.float64) for name, value in rounded.items()})
        want_loss, want = torch_gradients(reference, x, target)
        assert loss == pytest.approx(want_loss, rel=1e-6)
        assert set(got) == set(want)
        for name, gradient in want.items():
            error = np.linalg.norm(got[name] - gradient) / np.linalg.norm(gradient)
            assert error < 1e-5, (step, name)
        torch_gradients(module, x, target)
        optimizer.step()
