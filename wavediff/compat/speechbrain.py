"""SpeechBrain: the vocoders of `speechbrain.inference.vocoders`."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from wavediff.arguments import Values, as_list, is_whole
from wavediff.compat.base import HostVocoder
from wavediff.errors import MelError, SamplingError
from wavediff.mel.transform import as_mel


class SpeechBrainVocoder(HostVocoder):
    """In the place of `DiffWaveVocoder`; for `HIFIGAN`, whose arguments stand in another order, see its sibling."""

    dialect = "tacotron2"

    def decode_batch(
        self,
        mel: Values,
        hop_len: int | None = None,
        mel_lens: Tensor | Sequence[int] | None = None,
        fast_sampling: bool = False,
        fast_sampling_noise_schedule: Sequence[float] | None = None,
    ) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)

        Args:
            mel: of the host's dialect.
            hop_len: samples a frame; must be the vocoder's, where given.
            mel_lens: frames of each item; what is beyond is silent.
            fast_sampling: whether to take the schedule below, instead of this object's number of steps.
            fast_sampling_noise_schedule: ascending betas, as in `Vocoder.decode(schedule=)`.

        Raises:
            MelError: another hop, or a mel of another dialect.
            SamplingError: fast sampling without a schedule, or with an impossible one; lengths that do not fit.
        """
        if as_list(hop_len) is not None:
            raise SamplingError("hop_len: holds lengths, as HIFIGAN.decode_batch takes them; use SpeechBrainHiFiGAN")
        _check_hop(self, hop_len)
        options: dict[str, Any] = {}
        if fast_sampling:
            if fast_sampling_noise_schedule is None:
                raise SamplingError("fast_sampling: needs a schedule; pass fast_sampling_noise_schedule=[...] or False")
            options = {
                "schedule": as_list(fast_sampling_noise_schedule) or fast_sampling_noise_schedule,
                "num_steps": None,
            }
        return self.speech(mel, mel_lens, **options)[:, None]

    def decode_spectrogram(
        self,
        spectrogram: Values,
        hop_len: int | None = None,
        fast_sampling: bool = False,
        fast_sampling_noise_schedule: Sequence[float] | None = None,
    ) -> Tensor:
        """(n_mels, frames) -> (1, N); the arguments are those of `decode_batch`."""
        return self.decode_batch(as_mel(spectrogram)[None], hop_len, None, fast_sampling, fast_sampling_noise_schedule)[
            0
        ]

    def forward(self, spectrogram: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        return self.decode_batch(spectrogram)


class SpeechBrainHiFiGAN(HostVocoder):
    """In the place of `HIFIGAN`."""

    dialect = "tacotron2"

    def decode_batch(
        self, spectrogram: Values, mel_lens: Tensor | Sequence[int] | None = None, hop_len: int | None = None
    ) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N); see `SpeechBrainVocoder.decode_batch`.

        Raises:
            MelError: another hop than the vocoder's, or a mel of another dialect.
            SamplingError: lengths that do not fit.
        """
        _check_hop(self, hop_len)
        return self.speech(spectrogram, mel_lens)[:, None]

    def decode_spectrogram(self, spectrogram: Values) -> Tensor:
        """(n_mels, frames) -> (1, N)"""
        return self.speech(spectrogram)[None]

    def forward(self, spectrogram: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        return self.decode_batch(spectrogram)


def _check_hop(vocoder: HostVocoder, hop_len: int | None) -> None:
    if hop_len is not None and (not is_whole(hop_len) or int(hop_len) != vocoder.hop_length):
        raise MelError(
            f"hop_len: {hop_len!r:.60} is not this vocoder's {vocoder.hop_length}; use a vocoder of that hop"
        )
