"""A compiled network: call it, take gradients, train it, keep its weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np

from cnnc.api import inputs
from cnnc.api.evaluation import Evaluation, evaluation, scores
from cnnc.api.persistence import Facts, Saved, write_saved
from cnnc.codegen import generate
from cnnc.errors import UsageError
from cnnc.ir.model import Model
from cnnc.ir.params import ParamSpec
from cnnc.ir.plan import Plan, Space
from cnnc.ir.training import TrainConfig
from cnnc.passes.budget import Budget, plan_within
from cnnc.passes.pipelines import left_out
from cnnc.runtime.arrays import Array, Restore
from cnnc.runtime.device import open_device
from cnnc.runtime.init import check_seed, initial_values
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.session import Session
from cnnc.train.data import Dataset, Split
from cnnc.train.loop import Epoch, Watcher, fit

DEFAULT_BATCH = 32
SOURCE_TARGET = "sm_90"  # what ``kernels`` shows where the device itself runs no Triton


class Network:
    """A program on one device, with its weights. Made by ``cnnc.compile`` and ``cnnc.load``.

    Images go in as ``[N, H, W, C]``, sequences of a 1-D net as ``[N, L, C]``; numpy, torch and DLPack arrays
    come back as what they were.
    In training mode batch norm uses the batch's statistics and updates the running ones, as in PyTorch.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str,
        dtype: str,
        training: bool,
        seed: int,
        without: Iterable[str] = (),
        budget: Budget | None = None,
    ) -> None:
        self.model = model
        self.dtype = inputs.dtype_name(dtype)
        self.training = training
        self.seed = check_seed(seed)
        self.step = 0
        self._session = Session(model, open_device(device, self.dtype), self.dtype, left_out(without), budget)
        self._last_output: Array | None = None
        for spec, value in initial_values(model.params(), self.seed):
            self._set(spec, value)

    # -- what it is -------------------------------------------------------------------------------

    @property
    def device(self) -> str:
        """``cpu``, ``interpret`` or ``cuda``."""
        return self._session.device.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image: H, W, C; of one sequence: L, C."""
        return self.model.shown(self.model.input_shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one image's output."""
        return self.model.output_shape

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of one image's labels: () for a class per image, (H, W) or (L,) for one per position."""
        return self.output_shape[:-1]

    @property
    def classes(self) -> int:
        """Extent of the output's last axis."""
        return self.output_shape[-1]

    @property
    def train_config(self) -> TrainConfig:
        """What the program's train block says, defaults filled in."""
        return self.model.train

    @property
    def graph(self) -> nx.MultiDiGraph:
        """The network as the program says it, as a read-only networkx view."""
        return self.model.graph.networkx()

    @property
    def plan(self) -> Plan:
        """The Plan of the training step if compiled for training, else of inference."""
        return self._session.plan("loss" if self.training else "infer")

    @property
    def kernels(self) -> str:
        """The generated Triton module of that Plan."""
        plan = self.plan
        if plan.target == "cpu":
            dtype, session = _gpu_dtype(self.dtype), self._session
            plan = plan_within(self.model, plan.variant, SOURCE_TARGET, dtype, session.budget, session.without)
        return generate(plan).source

    def memory(self, batch: int, training: bool = False) -> dict[str, int]:
        """Bytes that a run of ``batch`` images needs, by what for, and their ``total``."""
        if batch < 1:
            raise UsageError(f"batch must be at least 1, not {batch}")
        parts = self._session.predicted_bytes("loss" if training else "infer", batch, update=training)
        return {**parts, "total": sum(parts.values())}

    # -- running ----------------------------------------------------------------------------------

    def __call__(self, x: Any, training: bool = False) -> Any:
        """The output for ``[N, H, W, C]``; ``training`` turns dropout and batch statistics on."""
        array, restore = inputs.batch(x, self.input_shape, "input")
        variant = "forward" if training else "infer"
        return restore(self._session.run(variant, {"input": array}, self._scalars(len(array)))["output"])

    def scores(self, x: Any) -> Any:
        """The output such that larger is likelier: where it is distances from codes, they are negated."""
        return scores(self.model, self(x))

    def loss_and_grads(self, x: Any, target: Any) -> tuple[float, dict[str, Any]]:
        """Mean loss of a batch and its gradient by parameter name, in PyTorch's layouts and the kind of ``x``."""
        loss, _, restore = self._loss(x, target)
        return loss, self._gradients(restore)

    def vjp(self, x: Any, dy: Any) -> tuple[Any, dict[str, Any]]:
        """Gradients of ``sum(output * dy)`` with respect to the input and to every parameter, in the kind of ``x``."""
        self._need_training()
        array, restore = inputs.batch(x, self.input_shape, "input")
        upstream, _ = inputs.batch(dy, self.output_shape, "dy")
        if len(upstream) != len(array):
            raise UsageError(f"dy has {len(upstream)} images, but input has {len(array)}")
        outputs = self._session.run("vjp", {"input": array, "doutput": upstream}, self._scalars(len(array)))
        return restore(outputs["dinput"]), self._gradients(restore)

    def train_step(self, x: Any, target: Any) -> float:
        """Forward, backward and one update as the train block says; the loss before the update."""
        loss, self._last_output, _ = self._loss(x, target)
        self._session.update(self._scalars(1))
        self.step += 1
        return loss

    @property
    def last_output(self) -> Array:
        """Scores (logits, negated distances) of the last ``train_step``, before its update."""
        if self._last_output is None:
            raise UsageError("no training step has run yet")
        return self._last_output

    def _loss(self, x: Any, target: Any) -> tuple[float, Array, Restore]:
        self._need_training()
        array, restore = inputs.batch(x, self.input_shape, "input")
        numbers = inputs.labels(target, len(array), self.label_shape, self.classes)
        outputs = self._session.run("loss", {"input": array, "target": numbers}, self._scalars(len(array)))
        return float(outputs["loss"]), outputs["logits"], restore

    def _gradients(self, restore: Restore) -> dict[str, Any]:
        names = [spec.name for spec in self.model.listed() if spec.trainable]
        return {name: restore(self._session.get(name, Space.GRADS)) for name in names}

    def _scalars(self, n: int) -> Scalars:
        sgd = self.train_config.optimizer
        return Scalars(n, self.seed, self.step, lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.weight_decay)

    def _need_training(self) -> None:
        if not self.training:
            raise UsageError("this network was compiled for inference; compile it with training=True")

    # -- over many images -------------------------------------------------------------------------

    def predict(self, x: Any, batch_size: int = DEFAULT_BATCH) -> Any:
        """The output for any number of images, ``batch_size`` at a time."""
        array, restore = inputs.batch(x, self.input_shape, "input")
        _check_positive("batch_size", batch_size)
        parts = [self(array[start : start + batch_size]) for start in range(0, len(array), batch_size)]
        return restore(np.concatenate(parts))

    def evaluate(self, x: Any, y: Any, batch_size: int = DEFAULT_BATCH) -> Evaluation:
        """Loss and accuracy on labelled images (or positions), in inference mode."""
        output = self.predict(inputs.batch(x, self.input_shape, "input")[0], batch_size)
        return evaluation(self.model, output, inputs.labels(y, len(output), self.label_shape, self.classes))

    def fit(
        self,
        x: Any,
        y: Any,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_data: tuple[Any, Any] | None = None,
        watcher: Watcher | None = None,
    ) -> tuple[Epoch, ...]:
        """Train on labelled images; epochs and batch size default to the train block's.

        Returns one record per epoch. Without ``validation_data`` the accuracy is measured on the
        training images. The order of images depends on the network's seed and the epoch alone.
        """
        self._need_training()
        train = self._split(x, y)
        validation = self._split(*validation_data) if validation_data is not None else train
        return fit(
            self,
            Dataset("arrays", train, validation),
            epochs=self.train_config.epochs if epochs is None else epochs,
            batch_size=self.train_config.batch if batch_size is None else batch_size,
            seed=self.seed,
            watcher=watcher,
        )

    def _split(self, x: Any, y: Any) -> Split:
        array, _ = inputs.batch(x, self.input_shape, "input")
        return Split(array, inputs.labels(y, len(array), self.label_shape, self.classes))

    # -- weights ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Parameters and running statistics in program order, in PyTorch's names and layouts."""
        return {spec.name: self._session.get(spec.name, _space(spec)) for spec in self.model.listed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over weights; nothing changes unless every key fits.

        Raises:
            UsageError: a missing or unknown key, a wrong shape, NaN.
        """
        specs = {spec.name: spec for spec in self.model.listed()}
        missing = [name for name in specs if name not in state]
        extra = [name for name in state if name not in specs]
        if missing or extra:
            words = [f"lacks {', '.join(missing)}"] if missing else []
            words += [f"has {', '.join(map(str, extra))}, which the network has not"] if extra else []
            raise UsageError(f"the weights do not fit {self.model.name}: the file or dict {' and '.join(words)}")
        values = {name: inputs.parameter(state[name], name, spec.torch_shape) for name, spec in specs.items()}
        for name, value in values.items():
            self._set(specs[name], value)

    def optimizer_state(self) -> dict[str, Array]:
        """The optimiser's running sums by parameter name; empty for a network compiled for inference."""
        if not self.training:
            return {}
        return {
            spec.name: self._session.get(spec.name, Space.MOMENTUM) for spec in self.model.listed() if spec.trainable
        }

    def load_optimizer_state(self, state: Mapping[str, Any]) -> None:
        """Take over the optimiser's running sums."""
        self._need_training()
        for spec in self.model.listed():
            if spec.trainable and spec.name in state:
                value = inputs.parameter(state[spec.name], spec.name, spec.torch_shape)
                self._session.set(spec.name, Space.MOMENTUM, value)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write program, weights and optimiser state to one file, for ``cnnc.load``."""
        source = self.model.source
        facts = Facts(source.name, source.text, self.dtype, self.training, self.seed, self.step)
        write_saved(Saved(facts, self.state_dict(), self.optimizer_state()), path)

    def _set(self, spec: ParamSpec, value: Array) -> None:
        self._session.set(spec.name, _space(spec), value)


def _space(spec: ParamSpec) -> Space:
    return Space.PARAMS if spec.trainable else Space.STATE


def _gpu_dtype(dtype: str) -> str:
    return "float32" if dtype == "float64" else dtype


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")
