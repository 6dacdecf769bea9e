"""Graphs written by hand, for passes that programs reach only in one form."""

from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.params import Init, conv_spec, vector_spec
from cnnc.ir.types import Element
from cnnc.ir.window import Window


class Builder:
    """Adds ops one after the other; ``last`` is the value to go on from."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph("hand")
        self.last = self.graph.add("input", ops.Input(shape)).value()

    def op(self, name: str, op: ops.Op, *others: Value) -> Value:
        self.last = self.graph.add(name, op, [self.last, *others], layer=name).value()
        return self.last

    def param(self, spec, element=Element.ACC) -> Value:
        return self.graph.add(spec.name, ops.Parameter(spec, element)).value()

    def conv(self, name: str, filters: int, kernel: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Value:
        channels = self.graph.type_of(self.last).shape[2]
        weight = conv_spec(f"{name}.weight", filters, (kernel, kernel), channels // groups)
        window = Window((kernel, kernel), (stride, stride), (pad,) * 4)
        return self.op(name, ops.Conv(window, groups), self.param(weight, Element.REAL))

    def deconv(self, name: str, filters: int, window: Window, *, groups: int = 1, fixed: bool = False) -> Value:
        """A transposed convolution to the smallest image that it fills; a ``fixed`` weight is not trained."""
        *image, channels = self.graph.type_of(self.last).shape
        spec = conv_spec(f"{name}.weight", channels, window.kernel, filters // groups)
        height, width = (
            (n - 1) * window.stride[axis] + window.extent[axis] - sum(window.pad_of(axis))
            for axis, n in enumerate(image)
        )
        weight = self.param(replace(spec, trainable=not fixed), Element.REAL)
        return self.op(name, ops.ConvDgrad(window, (height, width), groups), weight)

    def vector(self, name: str, init: str = "zeros", *, trainable: bool = True) -> Value:
        channels = self.graph.type_of(self.last).shape[-1]
        return self.param(vector_spec(name, channels, Init(init), trainable=trainable))

    def bias(self, name: str) -> Value:
        return self.op(name, ops.BiasAdd(), self.vector(f"{name}.bias"))

    def norm(self, name: str, eps: float = 1e-5) -> Value:
        gamma, beta = self.vector(f"{name}.weight", "ones"), self.vector(f"{name}.bias")
        mean = self.vector(f"{name}.running_mean", trainable=False)
        var = self.vector(f"{name}.running_var", "ones", trainable=False)
        return self.op(name, ops.BatchNorm(eps), gamma, beta, mean, var)

    def done(self, **outputs: Value) -> Graph:
        self.graph.outputs = outputs or {"output": self.last}
        return self.graph
