#!/usr/bin/env python3
"""Every option that a program's --help shows is in its manual page. man_options_test.py MANDIR PAGE PROGRAM [SUBCOMMAND...]...

Each PROGRAM is asked for its help; a subcommand of a help text ("Subcommands:") is asked too. Prints what is missing.
"""
import pathlib
import re
import subprocess
import sys


def help_of(words):
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} --help: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def all_helps(words):
    text = help_of(words)
    yield text
    if "\nSubcommands:" in text:
        for name in re.findall(r"^  ([a-z][a-z0-9-]*)", text.split("\nSubcommands:")[1], re.M):
            yield from all_helps([*words, name])


def main():
    mandir, page, program = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    source = (mandir / page).read_text(encoding="utf-8")
    documented = set(re.findall(r"(?:\bFl|\|) -([a-z][a-z0-9-]*)", source))  # Fl -a | -b: both
    shown = set()
    for text in all_helps([program]):
        shown |= set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", "\n".join(
            line for line in text.splitlines() if re.match(r"\s+(-\w,)?--", line))))
    if len(shown) < 2:
        sys.exit(f"{program} --help shows no options: is this test still reading it right?")
    missing = sorted(shown - documented)
    for option in missing:
        print(f"{page}: --{option} of {pathlib.Path(program).name} --help is not described")
    print(f"{page}: {len(shown)} options, {len(missing)} not described")
    return 1 if missing else 0


sys.exit(main())
