"""TRL's ``DPOTrainer`` on pairs that bring the reference's log-probabilities."""

from datasets import Dataset
from trl import DPOTrainer

COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
"""Where TRL looks for them: one number a pair and column."""


class ReferenceTrainer(DPOTrainer):  # type: ignore[misc]
    """``DPOTrainer`` that computes no log-probabilities of the reference where its data set has them."""

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # what TRL keeps is lost when the process ends, and found again only with the same first weights of an adapter
        known = set(COLUMNS) <= set(dataset.column_names)
        return dataset if known else super()._precompute_ref_logps(dataset, name, batch_size)
