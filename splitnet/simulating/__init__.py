"""`splitnet simulate`: jobs over cores, their run folder, and what comes of them. Start with `run.py`."""
