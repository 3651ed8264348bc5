"""Trained vocoders in forms that others run: ONNX files, and programs of torch."""

from wavediff.exporting.contract import What
from wavediff.exporting.onnx_file import export_onnx
from wavediff.exporting.torch_file import FACTS, export_torch

__all__ = ["FACTS", "What", "export_onnx", "export_torch"]
