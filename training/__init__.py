"""What a run needs beside its loop: configuration, checkpoints, processes, pictures."""
