"""What stands before and behind a denoiser: encode first, decode last."""

from wavediff.pretransforms.codec import CodecConfig, MelCodec

__all__ = ["CodecConfig", "MelCodec"]
