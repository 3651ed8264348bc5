"""Train a model from a YAML recipe. Every key of the recipe is also an option, such as --data.batch_size 8; what comes
later on the command line counts.
"""

import argparse
import contextlib
import errno
import json
import logging
import operator
import os
import signal
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from wavediff.cli.parser import add_options
from wavediff.cli.progress import say
from wavediff.cli.train_errors import configuration_error
from wavediff.cli.train_progress import TrainingProgress, Waiting
from wavediff.data.datamodule import AudioDataModule
from wavediff.engine.precision import warn_if_slow_in_bfloat16
from wavediff.errors import ConfigError, OutputError, TrainingError, WavediffError
from wavediff.training import (
    AtomicCheckpointIO,
    AutoencoderModule,
    ClassifierModule,
    SoundModule,
    TrainingModule,
)
from wavediff.training.callbacks import last_checkpoint
from wavediff.training.guards import SkipBadSteps, memory_ran_out, occupied, state_to_resume
from wavediff.training.module import MelDenoiserModule

# Options of ours, in the words of the parser that reads the rest.
_OURS = {"--resume": ["--ckpt_path=last"], "--quiet": ["--trainer.enable_progress_bar=false"], "--json": []}
_NEXT = {  # what a model file is for
    MelDenoiserModule: "wavediff vocode recording.wav -o speech.wav --checkpoint {model}",
    SoundModule: "wavediff generate -o out/ --checkpoint {model}",
    AutoencoderModule: "wavediff train --config recipes/sfx/latent.yaml --model.autoencoder {model}",
    ClassifierModule: "wavediff evaluate --generated REAL GENERATED --classifier {model}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that one needs first; Lightning's parser reads them, and all others."""
    often = (
        ("--config", "FILE", "the recipe, such as recipes/ljspeech/fast.yaml; a second one changes the first"),
        ("--data.train_manifest", "FILE", "what to train on, of wavediff prepare"),
        ("--data.valid_manifest", "FILE", "what to validate on"),
        ("--data.batch_size", "N", "segments a step, of each device"),
        ("--model.learning_rate", "X", "of the optimiser, at its highest"),
        ("--model.init_from", "FILE", "a model file to begin with, for a fine-tuning"),
        ("--trainer.default_root_dir", "DIR", "the run's folder"),
        ("--trainer.max_steps", "N", "when to end"),
        ("--trainer.max_time", "DD:HH:MM:SS", "when to end at the latest: 00:00:10:00 are ten minutes"),
        ("--trainer.accelerator", "NAME", "auto, cpu or gpu"),
        ("--trainer.devices", "N", "how many"),
        ("--seed_everything", "K", "of the run (default 0)"),
    )
    for option, metavar, help_ in often:
        parser.add_argument(option, metavar=metavar, help=help_)
    parser.add_argument("--resume", action="store_true", help="go on where the run in that folder stopped")
    parser.add_argument("--print_config", action="store_true", help="print the whole configuration, and stop")
    add_options(parser, "quiet", "json")
    parser.add_argument("--help-all", action="store_true", help="all options, several hundred lines of them")


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
        waiting: what Lightning says before the training begins.
        args, options: of LightningCLI.
    """

    def __init__(self, *args: Any, held: contextlib.ExitStack, waiting: Waiting, **options: Any) -> None:
        self._held, self._waiting = held, waiting
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
        """With atomic checkpoints, and TensorBoard logs in the run's folder unless the YAML names a logger.

        Raises DataError before anything is made where there are no data.
        """
        self.datamodule.open()
        given = self.config["fit"]
        root = given.get("trainer.default_root_dir") or "."
        kwargs["plugins"] = [AtomicCheckpointIO()]
        if given.get("trainer.logger") in (None, True):
            kwargs["logger"] = TensorBoardLogger(root, name="", version="")
        # The bar and the lines are those of all commands.
        quiet = given.get("trainer.enable_progress_bar") is False
        kwargs["enable_progress_bar"] = False
        self.trainer_defaults["callbacks"] = [SkipBadSteps(), TrainingProgress(quiet=quiet)]
        if not quiet and given.get("trainer.enable_model_summary") is not False:
            self.trainer_defaults["callbacks"].append(ModelSummary())
        kwargs["enable_model_summary"] = False  # Lightning's own prints on standard output, which is for results
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING if quiet else logging.INFO)
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
                raise TrainingError(f"{last}: does not exist, nothing to resume; leave --resume out to start anew")
            fit["ckpt_path"] = str(state)
        elif fit["ckpt_path"] is None and last.exists():
            raise TrainingError(
                f"{root}: holds a run already; go on with --resume, or choose another --trainer.default_root_dir"
            )
        self._waiting.tell()

    def fit(self, **options: Any) -> None:
        """Trains; raises OutputError where the disk is full for what Lightning and its logger write themselves."""
        try:
            self.trainer.fit(**options)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            place = error.filename or self.trainer.default_root_dir
            raise OutputError(f"{place}: could not be written ({error.strerror}); check free space") from error


def main(argv: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Train, then say where the model is; the first Ctrl-C saves and stops like SIGTERM, the second stops at once."""
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        return
    interrupted: list[int] = []

    def on_interrupt(signum: int, frame: types.FrameType | None) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(signum)
        say("wavediff train: finishing this batch, then saving; Ctrl-C again stops at once")
        os.kill(os.getpid(), signal.SIGTERM)

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        cli = _fit([word for given in argv for word in _OURS.get(given, [given])])
        _conclude(cli, quiet="--quiet" in argv, as_json="--json" in argv)
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


def _conclude(cli: TrainingCLI, *, quiet: bool, as_json: bool) -> None:
    """What was made, and what can be done with it."""
    root, steps = Path(cli.trainer.default_root_dir), cli.trainer.global_step
    models = [path for path in (root / "best.safetensors", root / "last.safetensors") if path.exists()]
    if not cli.trainer.is_global_zero:
        return
    if as_json:
        print(json.dumps({"steps": steps, "folder": str(root), "model": str(models[0]) if models else None}))
    elif models and not quiet:
        print(f"done after {steps} steps; the model is {models[0]}")
        commands = [command for kind, command in _NEXT.items() if isinstance(cli.model, kind)]
        print(*(f"next: {command.format(model=models[0])}" for command in commands), sep="\n")


def _fit(argv: Sequence[str]) -> TrainingCLI:
    _silence_the_libraries()
    argv = ["--help" if word == "--help-all" else word for word in argv]
    _Parser.argv = tuple(argv)
    defaults: dict[str, Any] = {
        "use_distributed_sampler": False,  # the data module shares the batches out itself, resumably
        "enable_checkpointing": False,  # FullState and ModelExport do it
    }
    with contextlib.ExitStack() as held, Waiting() as waiting:
        return TrainingCLI(
            TrainingModule,
            AudioDataModule,
            held=held,
            waiting=waiting,
            subclass_mode_model=True,
            args=["fit", *argv],
            trainer_defaults=defaults,
            parser_class=_Parser,
            parser_kwargs={"prog": "wavediff train"},
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
        )


def _silence_the_libraries() -> None:
    """What Lightning says about its own future, its other products, and choices of ours."""
    unwanted_warnings = ("does not have many workers", "args parameter is intended to run", "model summary")
    for message in (*unwanted_warnings, "have overridden `transfer_batch_to_device`"):
        warnings.filterwarnings("ignore", f".*{message}.*")
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # what they log is a line of ours
    # The restricted loader of AtomicCheckpointIO is used whatever the last of these says.
    unwanted = ("litlogger", "weights_only", "Seed set to", "`Trainer.fit` stopped")
    for name in (
        "pytorch.utilities.rank_zero",
        "pytorch.trainer.connectors.checkpoint_connector",
        "fabric.utilities.seed",
        "fabric.utilities.rank_zero",
    ):
        logger = logging.getLogger(f"lightning.{name}")
        logger.addFilter(lambda record: not any(text in record.getMessage() for text in unwanted))
