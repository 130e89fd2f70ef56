"""Minimizing an objective: evaluators, optimizers, the loop of steps, and coarse to fine."""

from convnd.optimize.checkpoint import fingerprint, is_checkpoint, load_checkpoint, save_checkpoint
from convnd.optimize.distributed import (
    Box,
    ProcessGroup,
    ShardedContent,
    ShardedEvaluation,
    ShardedField,
    all_reduce_sums,
    sharded_sums,
)
from convnd.optimize.evaluation import (
    Evaluation,
    Evaluator,
    FitsMemory,
    RecomputedContent,
    TiledEvaluation,
    Tiler,
    evaluate_masked,
    evaluate_whole,
    evaluate_within,
    tiled_features,
    tiled_sums,
)
from convnd.optimize.loop import minimize
from convnd.optimize.minimizer import Minimizer, has_converged
from convnd.optimize.offload import DiskOffload
from convnd.optimize.optimizers import HISTORY, LEAST_HISTORY, OPTIMIZERS
from convnd.optimize.pyramid import choose_scales, pyramid_sizes, refine, spread_steps
from convnd.optimize.smoothing import Smoothing
from convnd.optimize.state import State, Step

__all__ = [
    "HISTORY",
    "LEAST_HISTORY",
    "OPTIMIZERS",
    "Box",
    "DiskOffload",
    "Evaluation",
    "Evaluator",
    "FitsMemory",
    "Minimizer",
    "ProcessGroup",
    "RecomputedContent",
    "ShardedContent",
    "ShardedEvaluation",
    "ShardedField",
    "Smoothing",
    "State",
    "Step",
    "TiledEvaluation",
    "Tiler",
    "all_reduce_sums",
    "choose_scales",
    "evaluate_masked",
    "evaluate_whole",
    "evaluate_within",
    "fingerprint",
    "has_converged",
    "is_checkpoint",
    "load_checkpoint",
    "minimize",
    "pyramid_sizes",
    "refine",
    "save_checkpoint",
    "sharded_sums",
    "spread_steps",
    "tiled_features",
    "tiled_sums",
]
