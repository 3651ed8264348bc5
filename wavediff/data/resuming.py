"""Where a Lightning trainer goes on after its counters were restored from a checkpoint.

Lightning (2.6) starts the loader before it brings the counters up to date, and what it then makes of them goes
wrong in three cases, each of which would repeat or lose batches:

- A batch interrupted by an exception stays in the `total` counters, after which a checkpoint written in
  `on_train_batch_end` is not recognised as such, and its last batch is trained on again.
- After a checkpoint written in `on_train_batch_end` of an epoch's last batch, the next epoch is not counted as
  started, and a second interruption starts it over.
- With `max_steps`, a checkpoint written at the end of an epoch counts that epoch twice.

So the counters are settled here, before the loader starts: every state a checkpoint can be in becomes one of
those that Lightning resumes well.
"""

from typing import Any


def settle(fit_loop: Any) -> tuple[int, int]:
    """Make the counters of `fit_loop` consistent; returns the epoch and the batch in it at which training goes on."""
    epochs, batches = fit_loop.epoch_progress, fit_loop.epoch_loop.batch_progress
    if not fit_loop.is_resuming or epochs.current.started == 0:
        return epochs.current.processed, 0
    epoch = epochs.current.started - 1
    within_epoch = epochs.current.processed == epoch
    current = batches.current
    saved_on_batch_end = current.ready == current.started == current.processed == current.completed + 1
    done = current.completed + saved_on_batch_end
    num_batches = batches.total.completed + saved_on_batch_end
    epoch_is_over = batches.is_last_batch and done == current.ready

    if epoch_is_over and within_epoch and not saved_on_batch_end:
        return epoch + 1, 0  # saved while validating at the end of an epoch: Lightning closes it well
    if epoch_is_over:
        _set(epochs.total, epoch + 1)
        _set(epochs.current, epoch + 1)
        _set(batches.total, num_batches)
        state = fit_loop.epoch_loop.on_save_checkpoint()
        state["_batches_that_stepped"] += saved_on_batch_end
        fit_loop.epoch_loop.on_load_checkpoint(state)
        # A new epoch, not the rest of one: as after a round of the loop, and for the loops inside too. The loop's own
        # setter would insist on True where there are max_steps.
        fit_loop.on_iteration_done()
        fit_loop.epoch_loop.restarting = False
        return epoch + 1, 0
    # In the middle of an epoch, perhaps one that `max_steps` ended early and counted as processed. If it was the last
    # batch that was interrupted, it is still to come; where it is the only one, Lightning would skip the epoch.
    batches.is_last_batch = False
    for progress in (epochs.total, epochs.current):
        _set(progress, epoch)
        progress.ready = progress.started = epoch + 1
    for progress, count in ((batches.total, num_batches), (batches.current, done)):
        _set(progress, count)
        progress.completed -= saved_on_batch_end  # Lightning counts this one itself
    fit_loop.restarting = True
    return epoch, done


def _set(progress: Any, count: int) -> None:
    progress.ready = progress.started = progress.processed = progress.completed = count
