"""Mels of frames of any FFT length, for a network that works in frames of its own length."""

from torch import Tensor

from wavediff.mel.spec import MelSpec
from wavediff.mel.transform import analysis_window, expand, stft_scale

_KEPT = ("sample_rate", "hop_length", "n_mels", "f_min", "f_max", "mel_scale", "mel_norm", "framing", "pad_mode")
_LEAST_BAND = 1e-9  # linear, of what is nearly nothing before its logarithm


def core_spec(spec: MelSpec, n_fft: int) -> MelSpec:
    """A dialect with the bands, the hop and the rate of `spec`, of frames of `n_fft` samples.

    Its scale is plain: natural logarithm, nothing normalised. A dialect of such frames is its own.
    """
    if n_fft in (0, spec.n_fft):
        return spec
    return MelSpec(
        n_fft=n_fft,
        win_length=n_fft,
        floor=_LEAST_BAND,
        **{name: getattr(spec, name) for name in _KEPT},
    )


def in_core(mel: Tensor, spec: MelSpec, core: MelSpec) -> Tensor:
    """A mel (B, n_mels, frames) of dialect `spec` as that of the frames of `core_spec`.

    A band is a weighted sum of magnitudes. Frames of half the length have half the bins; and as the magnitude of noise
    grows with the root of the window's energy, so does that of speech, but for its lowest harmonics.
    """
    if core == spec:
        return mel
    energy = analysis_window(core).square().sum() / analysis_window(spec).square().sum()
    gain = float(energy.sqrt()) * core.n_fft / spec.n_fft / stft_scale(spec)
    return (gain * expand(mel.float(), spec)).clamp(min=core.floor).log()
