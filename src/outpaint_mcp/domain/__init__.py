"""The vocabulary that everything else shares; it imports nothing of ours."""
