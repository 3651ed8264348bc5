"""Which dialect a mel most likely is: limits of values first, then statistics of speech."""

from wavediff.mel.identify.diagnosis import Advice, Diagnosis, advise, diagnose, likely_dialects

__all__ = ["Advice", "Diagnosis", "advise", "diagnose", "likely_dialects"]
