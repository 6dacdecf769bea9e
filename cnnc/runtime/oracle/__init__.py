"""The reference: every op in plain numpy, one at a time, in any float dtype.

It is what kernels, runtimes and passes are checked against, so it is written to be read, not to be fast,
and shares nothing with them but the arithmetic of windows and the random generator.
"""

from cnnc.runtime.oracle.evaluate import evaluate, evaluate_op
from cnnc.runtime.oracle.table import EVALUATE

__all__ = ["EVALUATE", "evaluate", "evaluate_op"]
