"""`splitnet run`: a scenario played on real processes, its folder, and what came of it. Start with `run.py`."""
