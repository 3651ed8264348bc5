"""How late the speech of a stream is behind its mel."""

from wavediff.backbones.adapter import AHEAD
from wavediff.diffusion import Plan, unroll
from wavediff.engine import stream_stft
from wavediff.engine.streaming import inner_hop, twin_of
from wavediff.mel import griffin_lim
from wavediff.models.denoiser import Denoiser


def look_ahead(denoiser: Denoiser, plan: Plan, hop_length: int, low_latency: bool = False) -> int:
    """Samples beyond its own that a sample of the speech depends on: how late a stream must be."""
    samples = _look_ahead(denoiser, plan, inner_hop(denoiser, hop_length), low_latency)
    if denoiser.rates is not None:
        samples = -(-(samples + denoiser.rates.reach) * denoiser.rates.made // denoiser.rates.unit)
    return samples if denoiser.adapter is None else AHEAD * hop_length + samples


def _look_ahead(denoiser: Denoiser, plan: Plan, hop_length: int, low_latency: bool) -> int:
    """The same, of a mel in the frames of the network."""
    evaluations, kind, shaped = len(unroll(plan, denoiser.schedule).times), twin_of(denoiser), denoiser.prior
    each, frames = kind.look_ahead(denoiser.backbone), kind.mel_reach
    if shaped is not None:
        stft, config = shaped.stft, shaped.config
        back = stream_stft.synthesis_look_ahead(stft)
        there_and_back = stream_stft.analysis_look_ahead(stft) + back
        frames = max(frames, there_and_back)  # of the noise of the process
        if config.start_time < 1:
            if low_latency:
                frames = max(frames, griffin_lim.look_ahead(stft) + back)
            else:  # the noise is shaped before its phase is improved
                frames += there_and_back + config.phase_iterations * stream_stft.phase_look_ahead(stft)
        frames += there_and_back if config.consistency and not low_latency else 0
        frames += shaped.envelope.frames // 2
    return frames * hop_length + evaluations * each


def settled_after(denoiser: Denoiser) -> tuple[int, int]:
    """Frames of a mel after which the guess of low latency is settled further: at first, and from then on.

    Fewer at a time would settle nothing, and each piece has its overhead.
    """
    shaped = denoiser.prior
    if shaped is None or shaped.config.start_time == 1:
        return 1, 1
    first, each = griffin_lim.look_ahead(shaped.stft) + 1 + shaped.envelope.frames // 2, griffin_lim.BLOCK
    if denoiser.adapter is None:
        return first, each
    pieces = denoiser.adapter.config.pieces
    return -(-first // pieces) + AHEAD, -(-each // pieces)
