"""Whether what a declaration says of a file of the user's own can be right; the file itself is not touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from harness.domain.errors import SuiteError
from harness.domain.setting import Dataset

TABLES, ARRAY_FILES = (".csv", ".parquet"), (".npz", ".npy")
_PICKLES = (".pkl", ".pickle", ".p", ".joblib")

_ARGS = {
    "path": str,
    "sha256": str,
    "target": str,  # a column's name
    "targets": str,  # "classes" or "numbers"
    "drop": list,  # columns that are no features
    "target_path": str,
    "target_sha256": str,
    "test_path": str,
    "test_sha256": str,
}


def check_file(dataset: Dataset) -> None:
    """Raise unless the arguments are such as ``data_file(...)`` makes, and go together.

    Raises:
        SuiteError: naming the file or the argument, the value and what would be right.
    """
    args = dataset.args
    _check_args(args)
    kind = check_kind(args["path"])
    _check_target(args, kind)
    if "test_path" in args:
        _check_test(args, kind)
    elif dataset.held_out.name == "test" and kind != ".npz":
        raise SuiteError(
            f'dataset.held_out is "test", but the file {args["path"]} has no test part; use a tail or a fold, '
            f"or name a file with one, as data_file(..., test=...)"
        )


def check_kind(path: str) -> str:
    """Return the ending of a file's name, one of `TABLES` and `ARRAY_FILES`.

    Raises:
        SuiteError: for any other, with the way to convert it.
    """
    ending = PurePath(path).suffix.lower()
    if ending in (*TABLES, *ARRAY_FILES):
        return ending
    if ending in _PICKLES:
        raise SuiteError(
            f"{path} is a pickle, which can run any program when it is read, so it is never read; convert it where you "
            f"trust it, with numpy.savez('data.npz', x=x, y=y), or with frame.to_parquet('data.parquet') from pandas"
        )
    raise SuiteError(
        f"{path} is of a kind that is not read; these are: .csv, .parquet (a target column by name), .npz (the arrays "
        f"x and y, or x_train, y_train, x_test and y_test), .npy (one table, the target its last column)"
    )


def whole(path: str, value: Any, *, at_least: int) -> int:
    """Return the value of an argument.

    Raises:
        SuiteError: for one that is no whole number, or too small.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise SuiteError(f"{path} must be a whole number of at least {at_least}, got {value!r}")
    return value


def _check_args(args: Mapping[str, Any]) -> None:
    for name, value in args.items():
        if name not in _ARGS:
            raise SuiteError(f"dataset.{name}: a file has no such argument; data_file(...) takes those it has")
        if not isinstance(value, _ARGS[name]):
            raise SuiteError(f"dataset.{name} must be a {_ARGS[name].__name__}, got {value!r}")
    for part in ("", "test_", "target_"):
        if (f"{part}path" in args) != (f"{part}sha256" in args) or "path" not in args:
            raise SuiteError(
                "the dataset 'file' stands for a file of your own and its checksum; "
                'write dataset=data_file("my.csv", target="label")'
            )
    if args.get("targets", "classes") not in ("classes", "numbers"):
        raise SuiteError(f'dataset.targets must be "classes" or "numbers", got {args["targets"]!r}')


def _check_target(args: Mapping[str, Any], kind: str) -> None:
    if kind in TABLES and "target" not in args:
        raise SuiteError(f'{args["path"]}: which column is the target? say data_file(..., target="NAME")')
    if kind in TABLES and args["target"] in args.get("drop", []):
        raise SuiteError(f"dataset.drop names {args['target']!r}, which is the target of {args['path']}")
    if kind in ARRAY_FILES and (named := [name for name in ("target", "drop") if name in args]):
        raise SuiteError(f"dataset.{named[0]} is {args[named[0]]!r}, but {args['path']} has no columns with names")
    if "target_path" in args and (kind != ".npy" or check_kind(args["target_path"]) != ".npy"):
        raise SuiteError(
            f"{args['target_path']} cannot be the target of {args['path']}: only an .npy file can have its target in "
            f"another file, an .npy file too"
        )


def _check_test(args: Mapping[str, Any], kind: str) -> None:
    if "target_path" in args:
        raise SuiteError(
            f"{args['path']}: a target in a file of its own goes with no test file; put all of them into one with "
            f"numpy.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)"
        )
    other = check_kind(args["test_path"])
    if (other in TABLES) != (kind in TABLES):
        raise SuiteError(
            f"{args['test_path']} cannot be the test part of {args['path']}: one has columns with names, the other not"
        )
