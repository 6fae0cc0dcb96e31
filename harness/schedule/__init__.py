"""Trials to outcomes.

What runs next: `order`, the queue, of `lines` of `phases`, one line for each `demand`.

The loop: `loop`, with the workers that live (`staff`), what has to be built first (`checks`), whose fault losses are
(`losses`), how long to wait for nodes (`patience`), and what it says (`notice`).

What runs trials, to the loop: `protocol`; `inline`, in this process; `ray_cluster`, on the nodes of a Ray cluster;
`gangs`, on several nodes at once, each a `gang` of `parts`; `resident`, on workers that stay between commands.

On a node: `node`, and `agent` around it for a driver elsewhere; `eligible` and `shares`, what it can hold; `launch`,
`nursery`, `process` and `child`, a worker's process from its start to its end, and `endings`, what is left of it.

Ray: `ray_link`, the connection; `ray_nodes` and `ray_node`, the nodes; `ray_refusals`, what they cannot hold;
`ray_environment`, the variables; `expected` and `join`, whether nodes come, and whether they can be used; `reaper`,
which cleans up after a process that is killed.
"""
