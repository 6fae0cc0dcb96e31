"""200 trials of a program that does nothing but say so: what running one costs beyond the program itself."""

from harness import Setting, Suite, product, program

suite = Suite(
    name="no_program",
    base=Setting(workload=program("sh", "-c", """echo '{{"epoch": 1}}'""")),
    grid=product(label=[str(number) for number in range(200)]),
)
