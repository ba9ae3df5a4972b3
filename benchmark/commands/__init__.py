"""What a command does besides running: import, rescore, clean, diagnose, preview, new plug-in."""
