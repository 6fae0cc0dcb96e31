"""A job request → an sbatch script, its submission, and what Slurm says of it; the nodes of an allocation."""
