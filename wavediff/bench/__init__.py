"""What computing costs: time, memory, share of what the machine can do."""
