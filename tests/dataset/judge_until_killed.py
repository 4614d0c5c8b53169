"""Judges clips one by one and says so after each, until it is killed: python judge_until_killed.py SET."""

import sys

from dataset.store import Store
from dataset.verdicts import HumanVerdict, VerdictBook

if __name__ == "__main__":
    book = VerdictBook(Store(sys.argv[1]))
    number = 0
    while True:
        verdict = HumanVerdict.KEEP if number % 2 else HumanVerdict.REJECT
        said = book.add(f"clip{number}", verdict, f"note {number}", "Ada")
        print(said.judgement_id, flush=True)
        number += 1
        if number % 7 == 0:
            book.fold(more_than=3)
