"""What a job inherits of the environment in which it is submitted."""

from __future__ import annotations

from harness.slurm.inherited import inherited


def test_options_in_variables_give_way_to_lines_of_the_script_and_stay_where_there_are_none() -> None:
    script = "#SBATCH --partition=gpu\n#SBATCH --exclusive\n#SBATCH --memory-of-old=1\n"
    environ = {"SBATCH_PARTITION": "cpu", "SBATCH_EXCLUSIVE": "user", "SBATCH_ACCOUNT": "lab", "SBATCH_TIMELIMIT": "5"}
    assert inherited(environ, script) == {"SBATCH_ACCOUNT": "lab", "SBATCH_TIMELIMIT": "5"}


def test_what_does_not_go_with_any_script_is_dropped() -> None:
    environ = dict.fromkeys(("SBATCH_WAIT", "SBATCH_EXPORT", "SBATCH_MEM_PER_CPU", "SBATCH_GPUS_PER_NODE"), "1")
    assert inherited(environ, "") == {}


def test_a_job_that_is_submitted_from_another_has_nothing_of_what_slurm_told_that_one() -> None:
    of_it = ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_RESTART_COUNT", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES")
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "token", "HOME": "/home/ada", "HARNESS_DATA_DIR": "/data"}
    assert inherited(dict.fromkeys(of_it, "1") | kept, "") == kept
