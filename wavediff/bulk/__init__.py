"""Thousands of files: what becomes what, batches of like length, reading ahead, decoding, many processes."""

from wavediff.bulk.batches import Batch, Item, make_batches, measure, remaining, share
from wavediff.bulk.decoding import Blueprint, Decoder, Outcome, Settings
from wavediff.bulk.jobs import Job, plan_jobs
from wavediff.bulk.processes import find_devices, vocode_in_processes
from wavediff.bulk.reading import BatchDataset, Fault, Loaded, read_batches
from wavediff.bulk.work import Work, find_work

__all__ = [
    "Batch",
    "BatchDataset",
    "Blueprint",
    "Decoder",
    "Fault",
    "Item",
    "Job",
    "Loaded",
    "Outcome",
    "Settings",
    "Work",
    "find_devices",
    "find_work",
    "make_batches",
    "measure",
    "plan_jobs",
    "read_batches",
    "remaining",
    "share",
    "vocode_in_processes",
]
