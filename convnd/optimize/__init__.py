"""Making an objective small: evaluators, the loop of steps, and coarse to fine."""

from convnd.optimize.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from convnd.optimize.distributed.evaluation import (
    ShardedContent,
    ShardedEvaluation,
    all_reduce_sums,
    sharded_sums,
)
from convnd.optimize.distributed.process_group import ProcessGroup
from convnd.optimize.distributed.sharded_field import ShardedField
from convnd.optimize.evaluation.targets import RecomputedContent, tiled_features, tiled_sums
from convnd.optimize.evaluation.tiled import TiledEvaluation
from convnd.optimize.evaluation.tiler import FitsMemory, Tiler, is_out_of_memory
from convnd.optimize.evaluation.whole import Evaluation, Evaluator, evaluate_whole
from convnd.optimize.minimize import HISTORY, OPTIMIZERS, Step, has_converged, minimize
from convnd.optimize.offload import DiskOffload
from convnd.optimize.pyramid import pyramid_sizes, refine, spread_steps

__all__ = [
    "HISTORY",
    "OPTIMIZERS",
    "DiskOffload",
    "Evaluation",
    "Evaluator",
    "FitsMemory",
    "ProcessGroup",
    "RecomputedContent",
    "ShardedContent",
    "ShardedEvaluation",
    "ShardedField",
    "Step",
    "TiledEvaluation",
    "Tiler",
    "all_reduce_sums",
    "evaluate_whole",
    "fingerprint",
    "has_converged",
    "is_out_of_memory",
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
