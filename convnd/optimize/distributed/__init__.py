"""Evaluation by several processes that share one field."""

from convnd.optimize.distributed.evaluation import (
    ShardedContent,
    ShardedEvaluation,
    all_reduce_sums,
    sharded_sums,
)
from convnd.optimize.distributed.process_group import ProcessGroup
from convnd.optimize.distributed.sharded_field import Box, ShardedField

__all__ = [
    "Box",
    "ProcessGroup",
    "ShardedContent",
    "ShardedEvaluation",
    "ShardedField",
    "all_reduce_sums",
    "sharded_sums",
]
