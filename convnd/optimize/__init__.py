"""Making an objective small: evaluators, the loop of steps, and coarse to fine."""

from convnd.optimize.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from convnd.optimize.evaluate import Evaluate, Evaluation, evaluate_whole
from convnd.optimize.group import Group
from convnd.optimize.minimize import HISTORY, OPTIMIZERS, Step, minimize, settled
from convnd.optimize.pyramid import pyramid_sizes, refine, spread_steps
from convnd.optimize.sharded import ShardedContent, ShardedEvaluation, add_sums, sharded_sums
from convnd.optimize.shards import Shards
from convnd.optimize.spill import Spill
from convnd.optimize.targets import RecomputedContent, tiled_features, tiled_sums
from convnd.optimize.tiled import TiledEvaluation
from convnd.optimize.tiler import Fits, Tiler, is_out_of_memory

__all__ = [
    "HISTORY",
    "OPTIMIZERS",
    "Evaluate",
    "Evaluation",
    "Fits",
    "Group",
    "RecomputedContent",
    "ShardedContent",
    "ShardedEvaluation",
    "Shards",
    "Spill",
    "Step",
    "TiledEvaluation",
    "Tiler",
    "add_sums",
    "evaluate_whole",
    "fingerprint",
    "is_out_of_memory",
    "load_checkpoint",
    "minimize",
    "pyramid_sizes",
    "refine",
    "save_checkpoint",
    "settled",
    "sharded_sums",
    "spread_steps",
    "tiled_features",
    "tiled_sums",
]
