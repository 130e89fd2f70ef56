"""Evaluators: functions from an objective and a field to a loss and its gradient."""

from convnd.optimize.evaluation.bounded import evaluate_masked, evaluate_within
from convnd.optimize.evaluation.targets import RecomputedContent, tiled_features, tiled_sums
from convnd.optimize.evaluation.tiled import TiledEvaluation
from convnd.optimize.evaluation.tiler import FitsMemory, Tiler
from convnd.optimize.evaluation.whole import Evaluation, Evaluator, evaluate_whole

__all__ = [
    "Evaluation",
    "Evaluator",
    "FitsMemory",
    "RecomputedContent",
    "TiledEvaluation",
    "Tiler",
    "evaluate_masked",
    "evaluate_whole",
    "evaluate_within",
    "tiled_features",
    "tiled_sums",
]
