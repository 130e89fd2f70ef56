"""Making an objective small: evaluators, the loop of steps, and coarse to fine."""

from convnd.optimize.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from convnd.optimize.evaluate import Evaluate, Evaluation, evaluate_whole
from convnd.optimize.minimize import HISTORY, OPTIMIZERS, Step, minimize, settled
from convnd.optimize.pyramid import pyramid_sizes, refine, spread_steps
from convnd.optimize.tiled import RecomputedContent, TiledEvaluation, tiled_features, tiled_sums
from convnd.optimize.tiler import Fits, Tiler, out_of_memory

__all__ = [
    "HISTORY",
    "OPTIMIZERS",
    "Evaluate",
    "Evaluation",
    "Fits",
    "RecomputedContent",
    "Step",
    "TiledEvaluation",
    "Tiler",
    "evaluate_whole",
    "fingerprint",
    "load_checkpoint",
    "minimize",
    "out_of_memory",
    "pyramid_sizes",
    "refine",
    "save_checkpoint",
    "settled",
    "spread_steps",
    "tiled_features",
    "tiled_sums",
]
