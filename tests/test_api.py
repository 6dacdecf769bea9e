"""The Python interface: arrays in and out, gradients, any batch, weights, files, and errors in one sentence."""

import numpy as np
import pytest
import torch

import cnnc
from cnnc.errors import ProgramError, UsageError

PROGRAM = """
model small
input 9x7x3
conv 5 3x3/2 pad=(1,0,2,1) bn relu
conv 6 1x1 tanh
maxpool 2x2
dropout 0.25
fc 4
softmax
train {
  optimizer sgd lr=0.1 momentum=0.9
}
"""
SHAPE, CLASSES = (9, 7, 3), 4
BATCHES = (1, 3, 63, 64, 65)
DEVICES = ["cpu", "interpret", pytest.param("cuda", marks=pytest.mark.gpu)]


def small(device="cpu", dtype="float32", training=True, seed=5):
    return cnnc.compile(PROGRAM, device=device, dtype=dtype, training=training, seed=seed)


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, *SHAPE)).astype(np.float32), rng.integers(0, CLASSES, n)


def relative(got, want):
    return np.linalg.norm(np.asarray(got, np.float64) - want) / np.linalg.norm(want)


class Torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(3, 5, 3, 2), torch.nn.Conv2d(5, 6, 1)
        self.bn = torch.nn.BatchNorm2d(5)
        self.fc1 = torch.nn.Linear(6 * 2 * 2, 4)

    def forward(self, x):
        x = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (2, 1, 1, 0))
        x = torch.tanh(self.conv2(torch.relu(self.bn(self.conv1(x)))))
        x = torch.nn.functional.max_pool2d(x, 2)
        return torch.softmax(self.fc1(x.flatten(1)), 1)


def torch_twin(net):
    twin = Torch().double()
    renamed = {name.replace("conv1.bn", "bn"): torch.from_numpy(v).double() for name, v in net.state_dict().items()}
    twin.load_state_dict(renamed, strict=False)
    return twin


@pytest.mark.parametrize("device", DEVICES)
def test_one_network_serves_every_batch(device):
    net = small(device)
    twin = torch_twin(net).eval()
    for n in BATCHES:
        x, _ = data(n)
        want = twin(torch.from_numpy(x).double()).detach().numpy()
        assert relative(net(x), want) < 1e-5, n


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("device", DEVICES[1:])
def test_kernels_and_cpu_agree_on_gradients_dropout_included(device, n):
    x, target = data(n)
    (one, grads), (other, want) = small(device).loss_and_grads(x, target), small("cpu").loss_and_grads(x, target)
    assert one == pytest.approx(other, rel=1e-5)
    largest = max(np.linalg.norm(value) for value in want.values())
    # Zero but for rounding, since a batch norm follows.
    assert np.linalg.norm(grads.pop("conv1.bias") - want.pop("conv1.bias")) < 1e-6 * largest
    for name, value in want.items():
        assert relative(grads[name], value) < 1e-5, name


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_vjp_against_torch(dtype, tolerance):
    program = PROGRAM.replace("dropout 0.25\n", "")
    net = cnnc.compile(program, device="cpu", dtype=dtype, training=True, seed=5)
    twin = torch_twin(net).train()
    x, _ = data(5)
    dy = np.random.default_rng(1).standard_normal((5, CLASSES)).astype(np.float32)
    leaf = torch.from_numpy(x).double().requires_grad_()
    twin(leaf).backward(torch.from_numpy(dy).double())
    dx, grads = net.vjp(x, dy)
    assert relative(dx, leaf.grad.numpy()) < tolerance
    for name, parameter in twin.named_parameters():
        got, want = grads[name.replace("bn", "conv1.bn")], parameter.grad.numpy()
        if name != "conv1.bias":  # zero but for rounding, since a batch norm follows
            assert relative(got, want) < tolerance, name
    assert relative(net.state_dict()["conv1.bn.running_var"], twin.bn.running_var.numpy()) < tolerance


def test_training_mode_forward_uses_the_batchs_statistics():
    net = cnnc.compile(PROGRAM.replace("dropout 0.25\n", ""), device="cpu", dtype="float64", training=True)
    twin = torch_twin(net).train()
    x, _ = data(6)
    assert relative(net(x, training=True), twin(torch.from_numpy(x).double()).detach().numpy()) < 1e-12


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("device", DEVICES)
def test_sixteen_bits(device, dtype):
    net, exact = small(device, dtype), small("cpu", "float64")
    x, _ = data(5)
    assert relative(net(x), exact(x)) < 2e-2


def test_training_folds_batch_norm_again_after_each_update():
    net = small()
    x, target = data(32)
    before = net(x)
    for _ in range(5):
        net.train_step(x, target)
    twin = torch_twin(net).eval()
    assert relative(net(x), twin(torch.from_numpy(x).double()).detach().numpy()) < 1e-5
    assert relative(net(x), before) > 1e-2


def test_the_same_kind_of_array_comes_back():
    net = small()
    x, _ = data(2)
    assert isinstance(net(x), np.ndarray)
    y = net(torch.from_numpy(x))
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.numpy(), net(x))
    dx, grads = net.vjp(torch.from_numpy(x), torch.ones(2, CLASSES))
    assert isinstance(dx, torch.Tensor)
    assert isinstance(grads["conv1.weight"], torch.Tensor)
    _, grads = net.loss_and_grads(torch.from_numpy(x), torch.tensor([0, 1]))
    assert isinstance(grads["conv1.weight"], torch.Tensor)
    assert net(x.astype(np.float64)[:, ::-1]).dtype == np.float32
    assert net(x.tolist()).shape == (2, CLASSES)


def test_seeds_reproduce_weights_and_masks():
    x, target = data(8)
    runs = [[small(seed=seed).train_step(x, target) for _ in range(2)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    net = small()
    first = net.loss_and_grads(x, target)[0]
    net.step = 1
    assert net.loss_and_grads(x, target)[0] != first


def test_state_dict_round_trip_in_torchs_layouts():
    net, other = small(), small(seed=6)
    state = net.state_dict()
    assert list(state)[:3] == ["conv1.weight", "conv1.bias", "conv1.bn.weight"]
    assert state["conv1.weight"].shape == (5, 3, 3, 3)
    assert state["fc1.weight"].shape == (4, 24)
    other.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_saved_networks_go_on_where_they_were(tmp_path):
    x, target = data(16)
    net = small()
    net.train_step(x, target)
    net.save(tmp_path / "net.cnnc")
    again = cnnc.load(tmp_path / "net.cnnc", device="cpu")
    assert [net.train_step(x, target) for _ in range(3)] == [again.train_step(x, target) for _ in range(3)]
    np.testing.assert_array_equal(net(x), again(x))


def test_fit_evaluate_predict():
    rng = np.random.default_rng(0)
    target = rng.integers(0, CLASSES, 96)
    x = (rng.standard_normal((96, *SHAPE)) * 0.1 + target[:, None, None, None]).astype(np.float32)
    net = small()
    before = net.evaluate(x, target)
    history = net.fit(x, target, epochs=12, batch_size=16)
    after = net.evaluate(x, target)
    assert len(history) == 12
    assert after.loss < before.loss
    assert after.accuracy > max(before.accuracy, 0.5)
    np.testing.assert_allclose(net.predict(x, batch_size=7), net(x), rtol=1e-5, atol=1e-6)


def test_evaluate_is_cross_entropy_with_and_without_softmax():
    x, target = data(10)
    net, logits = small(), cnnc.compile(PROGRAM.replace("softmax\n", ""), device="cpu", seed=5)
    logits.load_state_dict(net.state_dict())
    want = torch.nn.functional.cross_entropy(torch.from_numpy(logits(x)), torch.from_numpy(target)).item()
    assert net.evaluate(x, target).loss == pytest.approx(want, rel=1e-5)
    assert logits.evaluate(x, target).loss == pytest.approx(want, rel=1e-5)


def test_memory_prediction_adds_up_and_grows():
    net = small()
    parts = net.memory(64, training=True)
    assert parts["total"] == sum(value for name, value in parts.items() if name != "total")
    assert net.memory(8)["output"] == 8 * 128  # four classes in float32, and rows of memory are 128 bytes
    assert net.memory(1)["total"] < net.memory(64)["total"] < parts["total"]


def test_kernels_and_graph_can_be_read():
    net = small()
    assert "@triton.jit" in net.kernels
    assert "conv1" in net.graph
    assert net.plan.variant == "loss"


X, TARGET = data(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: net(X[0]), "input is one 9x7x3 array; it needs a batch axis in front: Nx9x7x3"),
        (lambda net: net(X[:, :8]), "input is 4x8x7x3, but the network needs Nx9x7x3"),
        (lambda net: net(X[:0]), "input has no images"),
        (lambda net: net(np.array(["a"])), "input holds str"),
        (lambda net: net(None), "real numbers are needed"),
        (lambda net: net.train_step(X, TARGET[:3]), "target is 3, but 4 images need 4 labels"),
        (lambda net: net.train_step(X, TARGET + 4), "but there are 4 classes"),
        (lambda net: net.train_step(X, TARGET * 0.5), "integer class labels are needed"),
        (lambda net: net.vjp(X, np.ones((3, 4))), "dy has 3 images, but input has 4"),
        (lambda net: net.load_state_dict({}), "lacks conv1.weight"),
        (lambda net: net.load_state_dict({**net.state_dict(), "x": X}), "has x, which the network has not"),
        (lambda net: net.load_state_dict({**net.state_dict(), "fc1.bias": X}), "fc1.bias is 4x9x7x3, but"),
        (lambda net: net.load_state_dict({**net.state_dict(), "fc1.bias": np.full(4, np.nan)}), "fc1.bias holds NaN"),
        (lambda net: net.memory(0), "batch must be at least 1"),
        (lambda net: net.last_output, "no training step has run yet"),
        (lambda net: small("gpu"), "unknown device 'gpu'"),
        (lambda net: small(dtype="int8"), "unknown dtype 'int8'"),
        (lambda net: small("interpret", "float64"), "float64 runs on device cpu only"),
        (lambda net: small(seed=-1), "seed must be"),
        (lambda net: small(training=False).train_step(X, TARGET), "compile it with training=True"),
        (lambda net: cnnc.load(__file__), "not a file that a network was saved to"),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(UsageError) as caught:
        call(small())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refused_weights_change_nothing():
    net = small()
    before = net.state_dict()
    with pytest.raises(UsageError):
        net.load_state_dict({**before, "conv1.weight": before["conv1.weight"] * 2, "fc1.bias": np.full(4, np.inf)})
    np.testing.assert_array_equal(net.state_dict()["conv1.weight"], before["conv1.weight"])


def test_a_loss_needs_a_label_per_position_and_a_wrong_program_says_where():
    net = cnnc.compile("input 4x4x1\nconv 2 3x3\n", device="cpu", training=True)
    sentence = "target is 1, but 1 images need labels 1x2x2, one per position; for one label per image end"
    with pytest.raises(cnnc.CnnError, match=sentence):
        net.loss_and_grads(np.zeros((1, 4, 4, 1)), np.zeros(1, int))
    with pytest.raises(ProgramError, match=r"<text>:2:8: error: kernel 9x9 does not fit"):
        cnnc.compile("input 4x4x1\nconv 2 9x9\n", device="cpu")
