"""Counts the test cases of one ctest run and prints the summary that `./dev test` ends with.

A ctest entry is one GoogleTest binary or one pytest file; both write a JUnit file with their own cases beside ctest's.
An entry that failed without a failed case in its file (a crash, a timeout, a sanitizer report) counts as one failure.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def cases_of(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the passed, failed and skipped cases in one GoogleTest or pytest result file."""
    passed, failed, skipped = [], [], []
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is not None or case.get("status") == "notrun" or case.get("result") == "skipped":
            skipped.append(name)
        else:
            passed.append(name)
    return passed, failed, skipped


def main(results: Path) -> int:
    ctest_file = results / "ctest.xml"
    if not ctest_file.exists():
        print("test: ctest wrote no result file, so nothing is known to have passed", file=sys.stderr)
        print("0 passed, 1 failed")
        return 1
    passed, failed, skipped = [], [], []
    for entry in ElementTree.parse(ctest_file).iter("testcase"):
        name = entry.get("name", "?")
        entry_ok = entry.get("status") == "run" and entry.find("failure") is None
        own = results / f"{name}.xml"
        entry_failed = []
        if own.exists():
            entry_passed, entry_failed, entry_skipped = cases_of(own)
            passed += entry_passed
            failed += entry_failed
            skipped += entry_skipped
        elif entry_ok:
            passed.append(name)
        if not entry_ok and not entry_failed:
            failed.append(f"{name} (ended with status {entry.get('status')} outside any of its cases)")
    print()
    for name in skipped:
        print(f"SKIPPED {name}")
    for name in failed:
        print(f"FAILED  {name}")
    if skipped:
        print(f"{len(skipped)} skipped")
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
