"""Trained vocoders in forms that others run: ONNX files, programs of torch, and pages that run in a browser."""

from wavediff.exporting.onnx_file import export_onnx
from wavediff.exporting.tracing import FACTS, What, export_torch
from wavediff.exporting.web_folder import export_web

__all__ = ["FACTS", "What", "export_onnx", "export_torch", "export_web"]
