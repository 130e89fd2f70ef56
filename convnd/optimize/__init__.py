"""Making an objective small: evaluators, the loop of steps, and coarse to fine."""

from convnd.optimize.evaluate import Evaluate, Evaluation, evaluate_whole
from convnd.optimize.minimize import HISTORY, OPTIMIZERS, Step, minimize
from convnd.optimize.pyramid import pyramid_sizes, refine, spread_steps

__all__ = [
    "HISTORY",
    "OPTIMIZERS",
    "Evaluate",
    "Evaluation",
    "Step",
    "evaluate_whole",
    "minimize",
    "pyramid_sizes",
    "refine",
    "spread_steps",
]
