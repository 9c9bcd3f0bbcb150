"""One seed takes the same pairs in each step, whatever reads them and however many share them."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from socratic_rl.training.batches import StepSampler


def conversations(seed: int, most: int = 6) -> list[str]:
    draw = random.Random(seed)
    return [f"c{name}" for name in range(40) for _ in range(draw.randint(1, most))]


def sampler(names: list[str], batch: int, accumulation: int = 1, rows: bool = False, **changes: Any) -> StepSampler:
    settings = {
        "train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "world_size": 1,
        "process_index": 0,
        "seed": 0,
        "data_seed": None,
        "train_sampling_strategy": "group_by_length",
        "dataloader_drop_last": False,
    }
    epoch = changes.pop("epoch", 0)
    lengths = [(7 * number) % 31 for number in range(len(names))] if rows else None
    return StepSampler(names, SimpleNamespace(**settings | changes), lengths, lambda: epoch)


def flat(batches: StepSampler) -> list[int]:
    return [pair for batch in batches for pair in batch]


def steps(batches: StepSampler, epoch: int = 0) -> list[list[int]]:
    return [sorted(pair for slot in step for batch in slot for pair in batch) for step in batches.steps(epoch)]


STRATEGIES = ["group_by_length", "random", "sequential"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", [1, 4, 8])
def test_every_pair_comes_once_an_epoch_in_an_order_of_its_own(size: int, strategy: str):
    names = conversations(size)
    made = {
        (seed, epoch): list(sampler(names, size, seed=seed, epoch=epoch, train_sampling_strategy=strategy))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    for batches in made.values():
        assert sorted(pair for batch in batches for pair in batch) == list(range(len(names)))
        assert len(batches) == len(sampler(names, size))
    orders = {str(batches) for batches in made.values()}
    assert len(orders) == (1 if strategy == "sequential" else 4)
    again = sampler(names, size, seed=5, data_seed=1, epoch=1, train_sampling_strategy=strategy)
    assert list(again) == made[1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_conversations_stay_in_one_batch(seed: int):
    names = conversations(seed)
    batches = [{names[pair] for pair in batch} for batch in sampler(names, 8, seed=seed)]
    assert sum(map(len, batches)) - len(set(names)) <= 3


def test_a_conversation_that_is_larger_than_a_batch_takes_several():
    batches = list(sampler(["a"] * 10 + ["b"] * 2, 4))
    assert sorted(flat(sampler(["a"] * 10 + ["b"] * 2, 4))) == list(range(12))
    assert [sum(pair < 10 for pair in batch) for batch in batches] in ([4, 4, 2], [2, 4, 4])


def test_padded_rows_of_like_length_go_together_within_a_step():
    rows = sampler(conversations(0), 4, accumulation=4, rows=True)
    for step in rows.steps(0):
        lengths = [rows.row_lengths[pair] for slot in step for batch in slot for pair in batch]
        assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_holds_the_same_pairs_however_it_is_read_and_divided(seed: int, drop_last: bool, strategy: str):
    names = conversations(seed, 5)
    changes = {"seed": seed, "train_sampling_strategy": strategy, "dataloader_drop_last": drop_last}
    first = steps(sampler(names, 8, **changes))
    assert all(len(step) == 8 for step in first[:-1])
    pairs = sorted(pair for step in first for pair in step)
    assert len(pairs) == len(names) // 8 * 8 if drop_last else pairs == list(range(len(names)))
    for rows in (False, True):
        for batch, accumulation in ((8, 1), (4, 2), (2, 4), (1, 8)):
            assert steps(sampler(names, batch, accumulation, rows, **changes)) == first


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("pairs", [1, 2, 11, 12, 13, 23, 24, 31])
def test_processes_share_a_step_in_batches_of_one_size(pairs: int, processes: int, rows: bool):
    names = conversations(pairs)[:pairs]
    shared = [sampler(names, 2, 2, rows, world_size=processes, process_index=rank) for rank in range(processes)]
    batches = [list(each) for each in shared]
    sizes = [[len(batch) for batch in each] for each in batches]
    assert all(each == sizes[0] for each in sizes)
    assert [len(each) for each in shared] == [len(each) for each in batches]
    taken = [pair for each in batches for batch in each for pair in batch]
    assert set(taken) == set(range(pairs))
    # what cannot be shared evenly comes twice
    assert len(taken) == pairs + -pairs % processes
    alone = steps(sampler(names, 2, 2 * processes, rows))
    assert [sorted(set(step)) for step in steps(shared[0])] == alone
