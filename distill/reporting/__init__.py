"""One self-contained page on a run, or on several side by side: numbers, charts and the traces themselves."""
