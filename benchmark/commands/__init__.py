"""What each command of `bench` does: run, import, rescore, clean, diagnose, preview, new plug-in."""
