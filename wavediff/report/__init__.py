"""Pictures and pages of sound: spectrograms to look at, a page to listen to, another to compare systems by."""

from wavediff.report.comparison import write_comparison
from wavediff.report.page import Contents, write_page
from wavediff.report.pictures import save_spectrogram, spectrogram_decibels, spectrogram_figure

__all__ = [
    "Contents",
    "save_spectrogram",
    "spectrogram_decibels",
    "spectrogram_figure",
    "write_comparison",
    "write_page",
]
