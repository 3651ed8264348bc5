"""The command line: one module for each subcommand."""

MODEL_HELP = "model file, folder, or user/model on the Hugging Face Hub"
"""What `--checkpoint` takes wherever `from_pretrained` loads it."""
