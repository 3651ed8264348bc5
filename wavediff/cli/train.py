"""Train a model: `wavediff train --config recipes/ljspeech/diffwave_base.yaml [--data.batch_size 8 ...]`.

Any key of the YAML can be overridden as an option; `--print_config` shows them all; `--ckpt_path last` resumes.
"""

import contextlib
import logging
import operator
import os
import signal
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from wavediff.cli.train_errors import configuration_error
from wavediff.data.datamodule import AudioDataModule
from wavediff.engine.precision import warn_if_slow_in_bfloat16
from wavediff.errors import ConfigError, TrainingError, WavediffError
from wavediff.training import AtomicCheckpointIO, TrainingModule
from wavediff.training.callbacks import last_checkpoint
from wavediff.training.guards import SkipBadSteps, memory_ran_out, occupied, state_to_resume
from wavediff.training.progress import ProgressLines


class _Parser(LightningArgumentParser):
    """A parser whose errors are ours, in one line, where jsonargparse prints all options and leaves."""

    argv: Sequence[str] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises ConfigError; a parser within another one tells that one, which knows more."""
        if not self.exit_on_error:
            super().error(message, ex)
        subcommands = self._subcommands_action.choices.values() if self._subcommands_action else ()
        actions = [action for parser in (self, *subcommands) for action in parser._actions]
        options = [option for action in actions for option in action.option_strings]
        raise ConfigError(configuration_error(message, _Parser.argv, options)) from None


class TrainingCLI(LightningCLI):
    """LightningCLI with what belongs to the model taken from the model, and an honest `--ckpt_path last`.

    Args:
        held: what is let go of when the run ends, however it ends.
        args, options: of LightningCLI.
    """

    def __init__(self, *args: Any, held: contextlib.ExitStack, **options: Any) -> None:
        self._held = held
        super().__init__(*args, **options)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Raises ConfigError for what jsonargparse has no usage error for."""
        with _configuring():
            super().parse_arguments(parser, args)

    def instantiate_classes(self) -> None:
        """Raises ConfigError, or another of ours, for what a class does not take."""
        with _configuring():
            super().instantiate_classes()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The data's sample rate, labels and dialect of mels are the model's."""
        for name in ("sample_rate", "labels", "mel_spec"):
            parser.link_arguments("model", f"data.{name}", operator.attrgetter(name), apply_on="instantiate")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """With atomic checkpoints, and TensorBoard logs in the run's folder unless the YAML names a logger."""
        root = self._get(self.config, "trainer.default_root_dir") or "."
        kwargs["plugins"] = [AtomicCheckpointIO()]
        if self._get(self.config, "trainer.logger") in (None, True):
            kwargs["logger"] = TensorBoardLogger(root, name="", version="")
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Take the run's folder; resolve `--ckpt_path last`, which Lightning answers with a new run where none is."""
        if self.trainer.is_global_zero and self.trainer.precision in ("bf16-mixed", "bf16-true"):
            device = self.trainer.strategy.root_device
            warn_if_slow_in_bfloat16(device, "train in float32: --trainer.precision 32-true")
        fit = self.config_init["fit"]  # what Lightning calls trainer.fit with
        root = self.trainer.default_root_dir
        last = last_checkpoint(root)
        self._held.enter_context(occupied(root))
        if fit["ckpt_path"] == "last":
            state = state_to_resume(last)
            if state is None:
                raise TrainingError(f"{last}: does not exist, nothing to resume; leave --ckpt_path out to start anew")
            fit["ckpt_path"] = str(state)
        elif fit["ckpt_path"] is None and last.exists():
            raise TrainingError(
                f"{root}: holds a run already; resume it with --ckpt_path last, or choose another "
                "--trainer.default_root_dir"
            )


def main(argv: Sequence[str]) -> None:
    """Run `fit`; the first Ctrl-C saves and stops like SIGTERM, the second stops at once."""
    interrupted: list[int] = []

    def on_interrupt(signum: int, frame: types.FrameType | None) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(signum)
        print("wavediff train: finishing this batch, then saving; Ctrl-C again stops at once", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        _fit(argv)
    except SIGTERMException:
        sys.exit(128 + (signal.SIGINT if interrupted else signal.SIGTERM))
    except (RuntimeError, MemoryError) as error:
        raise memory_ran_out(error) or error from None
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def _configuring() -> Iterator[None]:
    """An error of ours for everything that a damaged configuration makes the libraries and the classes say."""
    try:
        yield
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        said = _said_by_us(error) or ConfigError(configuration_error(message, _Parser.argv))
        raise said from error


def _said_by_us(error: BaseException | None) -> WavediffError | None:
    """The error of ours behind another one, if there is one."""
    while error is not None:
        if isinstance(error, WavediffError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _fit(argv: Sequence[str]) -> None:
    _silence_the_libraries()
    _Parser.argv = tuple(argv)
    defaults: dict[str, Any] = {
        "use_distributed_sampler": False,  # the data module shares the batches out itself, resumably
        "enable_checkpointing": False,  # FullState and ModelExport do it
        "callbacks": [SkipBadSteps(), ProgressLines()],
    }
    with contextlib.ExitStack() as held:
        TrainingCLI(
            TrainingModule,
            AudioDataModule,
            held=held,
            subclass_mode_model=True,
            args=["fit", *argv],
            trainer_defaults=defaults,
            parser_class=_Parser,
            parser_kwargs={"prog": "wavediff train"},
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
        )


def _silence_the_libraries() -> None:
    """What Lightning says about its own future, its other products, and worker counts that the recipes chose."""
    for message in (".*does not have many workers.*", ".*args parameter is intended to run.*", ".*model summary.*"):
        warnings.filterwarnings("ignore", message)
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category)
    # The restricted loader of AtomicCheckpointIO is used whatever the last of these says.
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logger = logging.getLogger(f"lightning.pytorch.{name}")
        logger.addFilter(lambda record: not any(text in record.getMessage() for text in ("litlogger", "weights_only")))
