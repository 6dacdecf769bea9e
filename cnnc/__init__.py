"""cnnc: a compiler for convolutional networks.

``net = cnnc.compile("model.cnn")``, then ``net(x)``; see ``Network`` for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnc.errors import CnnError

if TYPE_CHECKING:
    from cnnc.api import Evaluation, Network, build_artifact, compile, load

__version__ = "0.1.0"
__all__ = ["CnnError", "Evaluation", "Network", "__version__", "build_artifact", "compile", "load"]


def __getattr__(name: str) -> Any:
    # On first use: the command line and the build's workers start without the whole package.
    if name in __all__:
        from cnnc import api  # noqa: PLC0415

        return getattr(api, name)
    raise AttributeError(f"module 'cnnc' has no attribute {name!r}")
